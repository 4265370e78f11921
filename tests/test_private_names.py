"""Every name that transformers, torch and peft do not promise to keep is in one table, with the reason to use it.

Checked against transformers 5.23.0, torch 2.13.0 and peft 0.21.2: where one of them moves, go through this table.
"""

import ast
import re
from functools import cache
from importlib import import_module
from pathlib import Path

import pytest

import tevia_hf

SOURCE = Path(tevia_hf.__file__).parent
CONSTRAINTS = Path(__file__).parents[1] / "constraints.txt"
CHECKED = {"transformers": "5.23", "torch": "2.13", "peft": "0.21"}
OPTIONAL = {"tevia_hf.inference.ray_engine"}  # ray may be missing; its classes have no library's bases
LIBRARIES = ("transformers", "torch", "peft", "huggingface_hub", "datasets", "safetensors", "accelerate")

# Attributes that the libraries read off a class of ours, methods they call on it, and attributes of their own objects.
PRIVATE = {
    "_apply": "torch.nn.Module: prototypes stay in float32 through `.half()` and `.to(dtype)`",
    "_forward": "Pipeline: to be written by each pipeline (documented)",
    "_init_weights": "PreTrainedModel: to be written by each model (documented)",
    "_keep_in_fp32_modules": "asked of a model's children; the encoders answer through `EncoderWrapper`",
    "_keep_in_fp32_modules_strict": "likewise; and prototypes stay in float32 when loaded in half precision",
    "_keys_to_ignore_on_load_missing": "asked of a model's children",
    "_keys_to_ignore_on_load_unexpected": "asked of a model's children",
    "_keys_to_ignore_on_save": "asked of a model's children",
    "_load_feature_extractor": "Pipeline: what `pipeline()` loads beside the model (documented)",
    "_load_image_processor": "Pipeline: likewise",
    "_load_processor": "Pipeline: likewise",
    "_load_tokenizer": "Pipeline: likewise",
    "_merge_kwargs": "ProcessorMixin: the options of a call, by part (its own models call it)",
    "_no_split_modules": "asked of a model's children; and a decoder block stays on one device (documented)",
    "_preprocess_image_like_inputs": "image processors: images and segmentation maps are prepared together",
    "_sanitize_parameters": "Pipeline: to be written by each pipeline (documented)",
    "_skip_keys_device_placement": "asked of a model's children",
    "_standardize_kwargs": "image processors: settings are checked where all calls pass",
    "_supports_sdpa": "PreTrainedModel: the attention that a model may be asked for (documented)",
}

# Modules that the libraries' own guides import from; whatever stands at a library's top is public.
PUBLIC_MODULES = {
    "accelerate.utils",
    "datasets.utils",
    "huggingface_hub.dataclasses",
    "huggingface_hub.errors",
    "safetensors.torch",
    "torch.distributed",
    "torch.nn",
    "torch.nn.attention",
    "torch.nn.functional",
    "torch.nn.utils",
    "torch.optim.swa_utils",
    "torch.overrides",
    "torch.utils.data",
    "torch.profiler",
    "torch.utils.flop_counter",
    "transformers.image_processing_utils",
    "transformers.image_utils",
    "transformers.initialization",
    "transformers.pipelines",
    "transformers.processing_utils",
    "transformers.utils",
}
FROM_INSIDE = {
    "peft.utils.ModulesToSaveWrapper": "prototypes are saved with an adapter as `modules_to_save` are",
    "transformers.configuration_utils.SubConfigSpec": "declares the encoders' configs as transformers' models do",
    "transformers.image_processing_backends.PilBackend": "the base of image processors without torchvision",
    "transformers.modeling_layers.GradientCheckpointingLayer": "what activation checkpointing looks for",
    "transformers.models.auto.tokenization_auto.get_tokenizer_config": "a tokenizer's class, without building it",
    "transformers.tokenization_utils_base.PaddingStrategy": "the type of a tokenizer's option",
    "transformers.tokenization_utils_base.TruncationStrategy": "the type of a tokenizer's option",
    "transformers.utils.output_capturing.maybe_install_capturing_hooks": "before `torch.compile` meets the hooks",
    "transformers.trainer_callback.ExportableState": "a callback whose state is saved with a checkpoint",
}


def modules() -> dict[str, ast.Module]:
    """The package's modules by dotted name, parsed."""
    paths = {path: path.relative_to(SOURCE.parent).with_suffix("") for path in SOURCE.rglob("*.py")}
    names = {path: ".".join(relative.parts).removesuffix(".__init__") for path, relative in paths.items()}
    return {name: ast.parse(path.read_text(encoding="utf-8")) for path, name in names.items()}


def is_private(name: str) -> bool:
    return re.fullmatch(r"_[a-zA-Z]\w*", name) is not None


def own_classes() -> list[type]:
    imported = [import_module(name) for name in modules().keys() - OPTIONAL]
    found = [value for module in imported for value in vars(module).values() if isinstance(value, type)]
    return [value for value in found if value.__module__.startswith("tevia_hf")]


@cache
def inherited_names() -> set[str]:
    """Private names that a class of ours has from a library's class, its own version of them included."""
    bases = {base for own in own_classes() for base in own.__mro__ if base.__module__.split(".")[0] in LIBRARIES}
    return {name for base in bases for name in vars(base) if is_private(name)}


def defined_names(tree: ast.AST) -> set[str]:
    """Private names that the code defines: functions, classes, variables, fields and attributes of `self`."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            found.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and ast.unparse(node.value) == "self":
            found.add(node.attr)
    return set(filter(is_private, found))


def used_names(tree: ast.AST) -> set[str]:
    """Private names that the code asks of something: as an attribute, or in text from which one is made."""
    texts = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    words = {word for text in texts for word in re.findall(r"(?<!\w)_\w+", text)}
    return {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute) and is_private(node.attr)} | words


def private_names(tree: ast.AST, defined: set[str], inherited: set[str]) -> set[str]:
    """Private names of the libraries: defined over theirs, or asked of something and defined nowhere by us."""
    asked = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute) and is_private(node.attr)}
    of_named_tuples = {"_asdict", "_fields", "_replace"}
    return ((defined_names(tree) | used_names(tree)) & inherited) | (asked - defined - of_named_tuples)


def names_from_inside(tree: ast.AST) -> set[str]:
    """Full names imported from modules of the libraries that are not theirs to show, and private ones of any."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if "." in alias.name}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    of_libraries = {name for name in found if name.split(".")[0] in LIBRARIES}
    return {name for name in of_libraries if not is_shown(name)}


def is_shown(name: str) -> bool:
    module, _, last = name.rpartition(".")
    return name in PUBLIC_MODULES or (not is_private(last) and (module in PUBLIC_MODULES or module in LIBRARIES))


@pytest.fixture(scope="module")
def trees():
    return modules()


def test_every_private_name_of_the_libraries_is_in_the_table(trees):
    defined, inherited = set().union(*map(defined_names, trees.values())), inherited_names()
    used = {name: module for module, tree in trees.items() for name in private_names(tree, defined, inherited)}
    assert {name: module for name, module in used.items() if name not in PRIVATE} == {}
    assert set(PRIVATE) - set(used) == set()  # strike out what is no longer used


def test_every_import_from_inside_the_libraries_is_in_the_table(trees):
    used = {name: module for module, tree in trees.items() for name in names_from_inside(tree)}
    assert {name: module for name, module in used.items() if name not in FROM_INSIDE} == {}
    assert set(FROM_INSIDE) - set(used) == set()


def test_the_libraries_still_have_the_names_of_the_table():
    """An override of what a library no longer reads would do nothing, without an error."""
    assert set(PRIVATE) - inherited_names() == set()


@pytest.mark.parametrize("library", CHECKED)
def test_the_table_was_checked_against_the_tested_set(library):
    """Moves the pin? Then look each name up in the new source, and write the new version here and above."""
    (pin,) = re.findall(rf"^{library}==(.*)$", CONSTRAINTS.read_text(encoding="utf-8"), re.MULTILINE)
    assert pin.startswith(f"{CHECKED[library]}.")


@pytest.mark.parametrize(
    ("code", "name"),
    [
        ("model._hidden = 1", "_hidden"),
        ("def f(model):\n    return model.config._commit_hash", "_commit_hash"),
        ("class A(PreTrainedModel):\n    _tied_weights_keys = {}", "_tied_weights_keys"),
        ("class A(Pipeline):\n    def _sanitize_parameters(self):\n        pass", "_sanitize_parameters"),
        ("getattr(model, '_supports_sdpa')", "_supports_sdpa"),
        ("names = '_no_split_modules _keep_in_fp32_modules'.split()", "_no_split_modules"),
        ("def _helper(model):\n    return model._commit_hash", "_commit_hash"),
    ],
)
def test_a_planted_private_name_is_found(code, name):
    assert name in private_names(ast.parse(code), set(), inherited_names())


@pytest.mark.parametrize(
    "code",
    [
        "from transformers.models.auto.tokenization_auto import get_tokenizer_config",
        "from peft.tuners.tuners_utils import BaseTunerLayer",
        "import transformers.models.bert",
        "from transformers.utils import _LazyModule",
        "from torch import _dynamo",
        "def late():\n    from transformers.integrations.peft import PeftAdapterMixin",
    ],
)
def test_a_planted_import_from_inside_is_found(code):
    assert len(names_from_inside(ast.parse(code))) == 1


@pytest.mark.parametrize(
    "code",
    [
        "def _own():\n    pass\n_own()",
        "class A:\n    def _own(self):\n        self._own()",
        "row._replace(id=1)._asdict()",
        "from transformers import PreTrainedModel\nfrom torch.nn import functional\nimport torch.nn.functional as F",
    ],
)
def test_ones_own_and_public_names_are_passed_over(code):
    tree = ast.parse(code)
    assert not private_names(tree, defined_names(tree), inherited_names()) and not names_from_inside(tree)
