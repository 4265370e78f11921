"""A model comes back from a folder or the hub's cache as it was saved, and runs on the code saved beside it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tiny import tiny_config, tiny_processor
from transformers import AutoModel, AutoModelForSemanticSegmentation

import tevia_hf
from tevia_hf import TeViAConfig, TeViAForSegmentation, TeViAModel

MIXING = {"text_projection": "token_mixing", "text_token_lengths": [24, 12, 9]}
SENTENCE = "upper left lung"


@pytest.fixture
def model(tiny_model):
    """Unlike a fresh model in prototypes and in the share of the text."""
    for block in tiny_model.model.decoder:
        torch.nn.init.constant_(block.cross_attention.scale, 0.5)
    tiny_model.prototype_memory.assign([torch.arange(float(width)) for width in (16, 8, 8)])
    return tiny_model.eval()


@pytest.fixture
def inputs():
    image = torch.rand(40, 50, generator=torch.Generator().manual_seed(0)).numpy()
    return tiny_processor(64)([image], [SENTENCE])


@pytest.mark.parametrize("auto_class", [TeViAForSegmentation, AutoModelForSemanticSegmentation])
def test_a_model_comes_back_from_disk_as_it_was(auto_class, model, inputs, tmp_path):
    model.save_pretrained(tmp_path)
    loaded = auto_class.from_pretrained(tmp_path)
    assert type(loaded) is TeViAForSegmentation and not loaded.training
    assert torch.equal(loaded(**inputs).logits, model(**inputs).logits)


@pytest.mark.parametrize(
    "settings", [{"num_labels": 2}, {"use_text": False}, MIXING], ids=["labels", "vision", "mixing"]
)
def test_every_kind_of_model_comes_back_from_disk(settings, inputs, tmp_path):
    model = TeViAForSegmentation(tiny_config(**settings)).eval()
    model.save_pretrained(tmp_path)
    assert torch.equal(TeViAForSegmentation.from_pretrained(tmp_path)(**inputs).logits, model(**inputs).logits)


def test_the_body_loads_from_a_segmentation_model(model, inputs, tmp_path):
    model.save_pretrained(tmp_path)
    body = AutoModel.from_pretrained(tmp_path)
    assert type(body) is TeViAModel
    assert torch.equal(body(**inputs).last_hidden_state, model.model(**inputs).last_hidden_state)


def test_half_precision_runs_on_float32_inputs(model, inputs, tmp_path):
    model.save_pretrained(tmp_path)
    half = TeViAForSegmentation.from_pretrained(tmp_path, dtype=torch.bfloat16)
    output = half(**inputs, labels=inputs.pixel_values[:, 0].gt(0).long())
    assert output.logits.dtype == torch.bfloat16 and output.loss.isfinite()
    torch.testing.assert_close(output.logits.float(), model(**inputs).logits, atol=0.05, rtol=0.05)


def run_python(code, home, **environment):
    """Output of a fresh interpreter without network, with an empty or prepared Hugging Face home."""
    settings = {"HF_HOME": str(home), "HF_HUB_OFFLINE": "1", "HF_ENDPOINT": "http://127.0.0.1:9", **environment}
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | settings
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=variables, cwd=home)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout.splitlines()[-1])


FROM_THE_HUB = """
import json, torch
from tevia_hf import TeViAForSegmentation, TeViAProcessor
from transformers import AutoProcessor
name = "org/tevia-qata"
model, processor = TeViAForSegmentation.from_pretrained(name), TeViAProcessor.from_pretrained(name)
assert type(AutoProcessor.from_pretrained(name)) is TeViAProcessor
inputs = processor([torch.linspace(0, 1, 40 * 50).view(40, 50).numpy()], ["upper left lung"])
masks = processor.post_process_segmentation(model(**inputs), target_sizes=[(40, 50)])
print(json.dumps([model(**inputs).logits.sum().item(), list(masks[0].shape), model.prototype_memory.is_active]))
"""


def test_a_hub_name_loads_from_the_local_cache_without_network(model, tmp_path):
    revision, repository = "0123456789" * 4, tmp_path / "hub" / "models--org--tevia-qata"
    for part in (model, tiny_processor()):
        part.save_pretrained(repository / "snapshots" / revision)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(revision)
    source = str(Path(tevia_hf.__file__).parents[1])
    total, size, active = run_python(FROM_THE_HUB, tmp_path, PYTHONPATH=source)
    image = torch.linspace(0, 1, 40 * 50).view(40, 50).numpy()
    inputs = tiny_processor()([image], [SENTENCE])
    assert total == pytest.approx(model(**inputs).logits.sum().item(), rel=1e-4)
    assert size == [40, 50] and active


REMOTE_CODE = """
import json, sys, torch
sys.modules["tevia_hf"] = None
from transformers import AutoConfig, AutoModelForSemanticSegmentation
config = AutoConfig.from_pretrained("saved", trust_remote_code=True)
model = AutoModelForSemanticSegmentation.from_pretrained("saved", trust_remote_code=True)
with torch.no_grad():
    print(json.dumps([type(config).__module__, float(model(torch.ones(1, 3, 32, 32)).logits.sum())]))
"""


def test_a_saved_folder_runs_on_its_own_code_without_the_package(model, tmp_path, monkeypatch):
    for own, auto in ((TeViAConfig, "AutoConfig"), (TeViAForSegmentation, "AutoModelForSemanticSegmentation")):
        monkeypatch.setattr(own, "_auto_class", None)  # undone after the test
        own.register_for_auto_class(auto)
    model.save_pretrained(tmp_path / "saved")
    module, total = run_python(REMOTE_CODE, tmp_path)
    assert module.startswith("transformers_modules.")
    assert total == pytest.approx(model(torch.ones(1, 3, 32, 32)).logits.sum().item(), rel=1e-4)
