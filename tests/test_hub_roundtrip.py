"""A model comes back from a folder or the hub's cache as it was saved, and runs on the code saved beside it."""

import copy
import importlib
import json
import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import tiny_config, tiny_processor
from transformers import AutoModel, AutoModelForSemanticSegmentation, AutoProcessor, pipeline

import tevia_hf
from tevia_hf import TeViAForSegmentation, TeViAModel, TeViAProcessor, TeViASegmentationPipeline

TASK = "text-guided-image-segmentation"

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


def test_weights_that_are_not_finite_are_refused_by_name(tmp_path, model):
    broken = copy.deepcopy(model)
    broken.decode_head.classifier.bias.data.fill_(float("nan"))
    broken.prototype_memory.prototype_0[0] = float("inf")
    broken.save_pretrained(tmp_path)
    message = "2 of the weights are not finite .*decode_head.classifier.bias.*prototype_0"
    for load in (TeViAForSegmentation, AutoModelForSemanticSegmentation):
        with pytest.raises(ValueError, match=message):
            load.from_pretrained(tmp_path, output_loading_info=True)
    with pytest.raises(ValueError, match="1 of the weights are not finite .*prototype_0"):
        TeViAModel.from_pretrained(tmp_path)


def test_weights_that_overflow_in_float16_are_refused_with_the_cause(tmp_path, model):
    large = copy.deepcopy(model)
    large.decode_head.classifier.bias.data.fill_(1e6)
    large.save_pretrained(tmp_path)
    assert TeViAForSegmentation.from_pretrained(tmp_path).decode_head.classifier.bias.item() == 1e6
    with pytest.raises(ValueError, match="classifier.bias. In float16 values over 65504 overflow: load in float32"):
        TeViAForSegmentation.from_pretrained(tmp_path, dtype=torch.float16)
    assert TeViAForSegmentation.from_pretrained(tmp_path, dtype=torch.bfloat16).dtype == torch.bfloat16


def test_half_precision_runs_on_float32_inputs(model, inputs, tmp_path):
    model.save_pretrained(tmp_path)
    half = TeViAForSegmentation.from_pretrained(tmp_path, dtype=torch.bfloat16)
    output = half(**inputs, labels=inputs.pixel_values[:, 0].gt(0).long())
    assert output.logits.dtype == torch.bfloat16 and output.loss.isfinite()
    torch.testing.assert_close(output.logits.float(), model(**inputs).logits, atol=0.05, rtol=0.05)


def run_python(code, home, python=sys.executable, **environment):
    """Output of a fresh interpreter without network, with an empty or prepared Hugging Face home."""
    settings = {"HF_HOME": str(home), "HF_HUB_OFFLINE": "1", "HF_ENDPOINT": "http://127.0.0.1:9", **environment}
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | settings
    result = subprocess.run([python, "-c", code], capture_output=True, text=True, env=variables, cwd=home)
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


WITHOUT_THE_PACKAGE = """
import importlib.util, json, sys, torch
from transformers import (
    AutoConfig, AutoImageProcessor, AutoModel, AutoModelForSemanticSegmentation, AutoProcessor, pipeline
)
assert importlib.util.find_spec("tevia_hf") is None
trusted = {"trust_remote_code": True}
processor = AutoProcessor.from_pretrained("saved", **trusted)
model = AutoModelForSemanticSegmentation.from_pretrained("saved", **trusted)
body = AutoModel.from_pretrained("saved", **trusted)
loaded = [AutoConfig.from_pretrained("saved", **trusted), AutoImageProcessor.from_pretrained("saved", **trusted)]
segment = pipeline("text-guided-image-segmentation", model="saved", **trusted)
image = torch.load("image.pt").numpy()
inputs = processor([image], ["upper left lung"])
with torch.no_grad():
    torch.save([model(**inputs).logits, body(**inputs).last_hidden_state], "outputs.pt")
segment(image, "upper left lung")[0]["mask"].save("mask.png")
segment.save_pretrained("again")
pipeline("text-guided-image-segmentation", model="again", **trusted)
print(json.dumps([type(part).__module__ for part in (processor, model, body, segment, *loaded)]))
"""


@pytest.fixture(scope="session")
def python_without_the_package(tmp_path_factory):
    """A fresh virtual environment that holds what this one holds, but for tevia_hf."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False)
    packages = Path(torch.__file__).parents[1]
    fresh = Path(sysconfig.get_path("purelib", vars={"base": str(folder), "platbase": str(folder)}))
    for entry in packages.iterdir():
        if "tevia" not in entry.name.lower() and not (fresh / entry.name).exists():
            (fresh / entry.name).symlink_to(entry)
    return str(folder / "bin" / "python")


def test_a_fresh_environment_without_the_package_computes_the_same(model, inputs, tmp_path, python_without_the_package):
    image = torch.rand(40, 50, generator=torch.Generator().manual_seed(0))
    torch.save(image, tmp_path / "image.pt")
    model.save_pretrained(tmp_path / "saved")
    tiny_processor(64).save_pretrained(tmp_path / "saved")
    modules = run_python(WITHOUT_THE_PACKAGE, tmp_path, python_without_the_package)
    assert all(module.startswith("transformers_modules.") for module in modules)
    logits, features = torch.load(tmp_path / "outputs.pt")
    assert torch.equal(logits, model(**inputs).logits)
    assert torch.equal(features, model.model(**inputs).last_hidden_state)
    entry = TeViASegmentationPipeline(model, processor=tiny_processor(64))(image, SENTENCE)[0]
    assert np.array_equal(np.asarray(Image.open(tmp_path / "mask.png")), np.asarray(entry["mask"]))


@pytest.mark.parametrize("trust", [None, False])
def test_with_the_package_no_code_of_the_folder_runs(trust, model, inputs, tmp_path):
    model.save_pretrained(tmp_path)
    tiny_processor(64).save_pretrained(tmp_path)
    for file in tmp_path.glob("*.py"):
        file.write_text("raise SystemExit('the code of the folder was run')")
    loaded = AutoModelForSemanticSegmentation.from_pretrained(tmp_path, trust_remote_code=trust)
    assert torch.equal(loaded(**inputs).logits, model(**inputs).logits)
    assert type(AutoModel.from_pretrained(tmp_path, trust_remote_code=trust)) is TeViAModel
    assert type(AutoProcessor.from_pretrained(tmp_path, trust_remote_code=trust)) is TeViAProcessor
    segment = pipeline(TASK, model=str(tmp_path), trust_remote_code=trust)
    assert type(segment) is TeViASegmentationPipeline


def test_what_is_saved_names_every_auto_class_whichever_class_saved_it(model, tmp_path):
    model.model.save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "config.json").read_text())
    assert set(saved["auto_map"]) == {"AutoConfig", "AutoModel", "AutoModelForSemanticSegmentation"}
    named = [*saved["auto_map"].values(), saved["custom_pipelines"][TASK]["impl"]]
    assert all((tmp_path / f"{name.split('.')[0]}.py").is_file() for name in named)


OWN_MODULE = """
from tevia_hf import TeViAForSegmentation, TeViAModel

class Network(TeViAForSegmentation):
    pass

class Body(TeViAModel):
    pass
"""


@pytest.fixture
def own_module(tmp_path, monkeypatch):
    """A user's module with subclasses of ours."""
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "own_networks.py").write_text(OWN_MODULE)
    monkeypatch.syspath_prepend(tmp_path / "code")
    yield importlib.import_module("own_networks")
    del sys.modules["own_networks"]


@pytest.mark.parametrize("name", ["Network", "Body"])
@pytest.mark.parametrize("module", ["own_networks", "__main__"])
def test_a_subclass_names_no_code_that_does_not_lie_beside_it(name, module, model, own_module, tmp_path, monkeypatch):
    model.save_pretrained(tmp_path / "ours")  # a config that names our code
    subclass = getattr(own_module, name)
    monkeypatch.setattr(subclass, "__module__", module)
    subclass.from_pretrained(tmp_path / "ours").save_pretrained(tmp_path / "saved")
    saved = json.loads((tmp_path / "saved" / "config.json").read_text())
    own = {f"{module}.{name}"} if module == "own_networks" else set()
    assert set(saved["auto_map"].values()) == {"configuration_tevia.TeViAConfig", *own}
    assert all((tmp_path / "saved" / f"{named.split('.')[0]}.py").is_file() for named in saved["auto_map"].values())
    assert "custom_pipelines" not in saved
    loaded = (AutoModel if name == "Body" else AutoModelForSemanticSegmentation).from_pretrained(tmp_path / "saved")
    assert type(loaded) is (TeViAModel if name == "Body" else TeViAForSegmentation)


@pytest.mark.parametrize("error", [OSError, RuntimeError, KeyboardInterrupt])
def test_a_save_that_fails_leaves_the_config_without_pipelines(error, model, tmp_path, monkeypatch):
    def fails(*_, **__):
        raise error("disk full")

    monkeypatch.setattr("transformers.modeling_utils.safe_save_file", fails)
    with pytest.raises(error, match="disk full"):
        model.save_pretrained(tmp_path)
    assert not hasattr(model.config, "custom_pipelines")
    assert type(pipeline(TASK, model=model, processor=tiny_processor(), config=model.config)).__module__.startswith(
        "tevia_hf"
    )
