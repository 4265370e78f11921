"""Imports point strictly downwards, and the environment holds nothing that breaks the CPU build of torch."""

import ast
import re
import socket
import sys
import tomllib
from collections.abc import Collection, Mapping
from graphlib import CycleError, TopologicalSorter
from importlib.util import find_spec
from pathlib import Path

import pytest

import tevia_hf

SOURCE = Path(tevia_hf.__file__).parent
# of use to all, and copied to the Hub with the kernel
GROUND = {"colours_tevia", "decoding_tevia", "labels_tevia", "option_checks_tevia"}
LEAVES = {
    "extras",
    "prompts",
    "visualization",
    "charts",
    "metrics",
    "metric_table",
    "score_summaries",
    "mask_pairs",
    "mask_scores",
    "lesion_measures",
    "volume_scores",
    "intervals",
    "io",
}
BELOW = {
    "ground": set(),
    "leaf": set(),
    "kernel": set(),
    "auto": {"leaf", "kernel"},
    "data": {"leaf"},
    "inference": {"leaf", "kernel", "auto", "data"},
    "training": {"leaf", "kernel", "auto", "data", "inference"},
    "evaluation": {"leaf", "kernel", "auto", "data", "inference", "training"},
    "experiments": {"leaf", "kernel", "auto", "data", "inference", "training", "evaluation"},
    "hub": {"leaf", "kernel", "auto", "data", "inference", "evaluation"},
    "benchmark": {"leaf", "kernel", "auto", "data", "inference", "evaluation", "hub"},
    "demo": {"leaf", "kernel", "auto", "data", "inference", "training", "evaluation"},
    "tevia_cli": {
        "leaf",
        "kernel",
        "auto",
        "data",
        "inference",
        "training",
        "evaluation",
        "experiments",
        "hub",
        "benchmark",
        "demo",
    },
}
MAY_IMPORT = {layer: below | {layer, "ground"} for layer, below in BELOW.items()}
KERNEL_LIBRARIES = {"torch", "transformers", "numpy", "PIL", "huggingface_hub"}


def layer_of(module: str) -> str:
    """Layer of a module named from inside the package: `data.qata` -> `data`, `loss_tevia` -> `kernel`.

    The command beside the package is named as if it were inside: `tevia_cli.main` -> `tevia_cli`.
    """
    head = module.partition(".")[0]
    if head in GROUND:
        return "ground"
    if head in LEAVES:
        return "leaf"
    if head.endswith("_tevia"):
        return "kernel"
    return head if head in MAY_IMPORT else "unknown"


def absolute_names(node: ast.AST, package: str) -> list[str]:
    """Full dotted names that one import statement asks for; other nodes give none."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if not isinstance(node, ast.ImportFrom):
        return []
    ancestors = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
    base = ".".join([*ancestors, *filter(None, [node.module])])
    return [f"{base}.{alias.name}" for alias in node.names]


def upward_import(layer: str, name: str) -> str | None:
    """What is wrong with importing the full dotted name from a module of the layer, or None."""
    library, _, inner = name.partition(".")
    if library in ("tevia_hf", "tevia_cli"):
        inner = name if library == "tevia_cli" else inner
        target = layer_of(inner)
        allowed = inner == "__version__" or target in MAY_IMPORT[layer]
        return None if allowed else f"{layer} imports {name} ({target})"
    if layer == "leaf" and library == "transformers":
        return f"leaf imports {name}"
    if layer == "ground" and library not in {"numpy", "PIL"} | sys.stdlib_module_names:
        return f"ground imports {name}"
    if layer == "kernel" and library not in KERNEL_LIBRARIES | sys.stdlib_module_names:
        return f"kernel imports {name}"
    return None


def is_copied_with_the_kernel(node: ast.AST) -> bool:
    """False for an import of our own that `save_pretrained` would not follow: all but `from .x_tevia import y`."""
    if not isinstance(node, ast.ImportFrom) or not node.level:
        return True
    return node.level == 1 and "." not in (node.module or ".") and str(node.module).endswith("_tevia")


def command_line_habit(node: ast.AST) -> str | None:
    """What a node does that only a command may do: print, or read the command line."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print":
        return "print()"
    if isinstance(node, ast.Attribute) and ast.unparse(node) in {"sys.argv", "sys.stdout"}:
        return ast.unparse(node)
    reads_arguments = any(name.partition(".")[0] == "argparse" for name in absolute_names(node, "tevia_hf"))
    return "argparse" if reads_arguments else None


def violations(module: str, code: str, is_package: bool = False) -> list[str]:
    """Every breach of the layers in the code of a module named from inside the package."""
    layer = layer_of(module)
    if layer == "unknown":
        return [f"{module} belongs to no layer: name it in DESIGN's layers and here"]
    package = f"tevia_hf.{module}" if is_package else f"tevia_hf.{module}".rpartition(".")[0]
    found, tree = [], ast.parse(code)
    for node in ast.walk(tree):
        names = absolute_names(node, package)
        found += filter(None, (upward_import(layer, name) for name in names))
        if layer in ("kernel", "ground") and not is_copied_with_the_kernel(node):
            found.append(f"kernel says `{ast.unparse(node)}`, which the hub copy would miss")
        habit = None if layer == "tevia_cli" else command_line_habit(node)
        found += [f"{layer} uses {habit}"] if habit else []
    return found


def source_modules() -> list[str]:
    inside, beside = SOURCE.rglob("*.py"), SOURCE.with_name("tevia_cli").rglob("*.py")
    paths = [*(path.relative_to(SOURCE) for path in inside), *(path.relative_to(SOURCE.parent) for path in beside)]
    return sorted(path.as_posix() for path in paths if path != Path("__init__.py"))


@pytest.mark.parametrize("path", source_modules())
def test_imports_point_downwards(path):
    module = path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    code = ((SOURCE.parent if module.startswith("tevia_cli") else SOURCE) / path).read_text(encoding="utf-8")
    assert violations(module, code, is_package=path.endswith("__init__.py")) == []


@pytest.mark.parametrize(
    ("module", "code"),
    [
        ("metrics", "import transformers"),
        ("labels_tevia", "import torch"),
        ("labels_tevia", "from .loss_tevia import soft_dice_loss"),
        ("decoding_tevia", "from .io.readers import read_image"),
        ("io.images", "from ..modeling_tevia import TeViAModel"),
        ("modeling_tevia", "from .metrics import image_metrics"),
        ("modeling_tevia", "from . import loss_tevia"),
        ("modeling_tevia", "from .data.features import FEATURES"),
        ("modeling_tevia", "from tevia_hf.loss_tevia import dice_loss\nimport monai"),
        ("backbone_tevia", "def late():\n    import timm"),
        ("backbone_tevia", "try:\n    import timm\nexcept ImportError:\n    pass"),
        ("data.collate", "from tevia_hf.processing_tevia import TeViAProcessor"),
        ("data.collate", "from tevia_hf import TeViAProcessor"),
        ("data.collate", "import tevia_hf"),
        ("auto", "from .data.registry import load_segmentation_dataset"),
        ("training.recipe", "from ..hub.convert_lightning import KEY_MAP"),
        ("training.trainer", "from ..evaluation.report_tables import score_table"),
        ("inference.predict", "from ..training.arguments import DataArguments"),
        ("training.recipe", "from ..experiments.ablation import run_ablation"),
        ("evaluation.report", "from ..experiments.table import ablation_text"),
        ("experiments.grid", "from ..hub.bundle import write_bundle"),
        ("hub.bundle", "from ..training.arguments import parse_recipe"),
        ("training.recipe", "import argparse"),
        ("hub.convert_lightning", "print('done')"),
        ("hub.convert_lightning", "import sys\nsys.argv[1:]"),
        ("hub.convert_lightning", "from tevia_cli import main"),
        ("hub.convert_lightning", "import tevia_cli.main"),
        ("helpers", "import os"),
    ],
)
def test_a_planted_violation_is_caught(module, code):
    assert violations(module, code)


@pytest.mark.parametrize(
    ("module", "code"),
    [
        ("io.readers", "from tevia_hf.decoding_tevia import image_to_array"),
        ("loss_tevia", "from .labels_tevia import IGNORE_INDEX"),
        ("metrics", "import numpy\nfrom monai.metrics import compute_hausdorff_distance"),
        ("modeling_tevia", "import torch\nfrom transformers import PreTrainedModel\nfrom .loss_tevia import dice_loss"),
        ("data.qata", "from ..io import read_image\nfrom .features import FEATURES"),
        ("training.recipe", "from ..auto import register\nfrom ..data import registry\nfrom . import callbacks"),
        ("experiments.ablation", "from ..training.recipe import train_from_recipe"),
        ("hub.convert_lightning", "from .. import __version__\nfrom ..modeling_tevia import TeViAForSegmentation"),
        ("tevia_cli.train", "import argparse\nfrom tevia_hf.training.recipe import build_trainer\nprint('done')"),
        ("tevia_cli.push", "from .bundle import add_card_options"),
    ],
)
def test_a_downward_import_passes(module, code):
    assert violations(module, code) == []


def imported_modules(code: str, package: str, known: Collection[str]) -> set[str]:
    """Modules among the known that the code imports, inside functions too, but not for type checkers alone.

    Of `from a import b` that is the module `a.b`, or else `a`.
    """
    tree = ast.parse(code)
    guards = [node for node in ast.walk(tree) if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
    unseen = {id(node) for guard in guards for statement in guard.body for node in ast.walk(statement)}
    names = [name for node in ast.walk(tree) if id(node) not in unseen for name in absolute_names(node, package)]
    found = (name if name in known else name.rpartition(".")[0] for name in names)
    return {name for name in found if name in known}


def import_graph(codes: Mapping[str, str], packages: Collection[str]) -> dict[str, set[str]]:
    """Module -> modules that it imports."""
    graph = {}
    for name, code in codes.items():
        package = name if name in packages else name.rpartition(".")[0]
        graph[name] = imported_modules(code, package, codes) - {name}
    return graph


def cycle_in(graph: Mapping[str, set[str]]) -> list[str]:
    """Modules that import each other in a ring, or none."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return error.args[1]
    return []


def test_no_module_imports_itself_by_way_of_others():
    codes, packages = {}, set()
    for path in source_modules():
        in_cli = path.startswith("tevia_cli")
        name = ("" if in_cli else "tevia_hf.") + path.removesuffix(".py").replace("/", ".")
        if name.endswith(".__init__"):
            packages.add(name := name.removesuffix(".__init__"))
        codes[name] = ((SOURCE.parent if in_cli else SOURCE) / path).read_text(encoding="utf-8")
    codes["tevia_hf"] = (SOURCE / "__init__.py").read_text(encoding="utf-8")
    graph = import_graph(codes, packages | {"tevia_hf"})
    assert len(graph) > 80 and sum(map(len, graph.values())) > 200
    assert cycle_in(graph) == []


@pytest.mark.parametrize(
    "codes",
    [
        {"p.a": "from .b import x", "p.b": "from p.a import y"},
        {"p.a": "from . import b", "p.b": "import p.a"},
        {"p.a": "from p.b import x", "p.b": "def late():\n    from p.c import y", "p.c": "from .a import z"},
        {"p": "from p.a import x", "p.a": "from p import y"},
        {"p": "from .a import x", "p.a": "from .b import y", "p.b": "from . import z"},
    ],
)
def test_a_planted_cycle_is_found(codes):
    assert cycle_in(import_graph(codes, {"p"}))


@pytest.mark.parametrize(
    "codes",
    [
        {"p.a": "from .b import x", "p.b": "import os"},
        {"p": "from p.a import x", "p.a": "from . import b", "p.b": "import os"},
        {"p.a": "from .b import x", "p.b": "if TYPE_CHECKING:\n    from p.a import y"},
    ],
)
def test_imports_without_a_cycle_pass(codes):
    assert cycle_in(import_graph(codes, {"p"})) == []


@pytest.mark.parametrize("path", source_modules())
def test_what_the_type_checker_passes_over_has_a_reason_beside_it(path):
    root = SOURCE.parent if path.startswith("tevia_cli") else SOURCE
    lines = [line for line in (root / path).read_text(encoding="utf-8").splitlines() if "type: ignore" in line]
    assert [line for line in lines if not re.search(r"# type: ignore\[[a-z-]+\]  # \w+", line)] == []


def test_the_type_checker_reads_the_whole_kernel():
    settings = tomllib.loads((SOURCE.parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["mypy"]
    assert not any("tevia_hf" in module for override in settings["overrides"] for module in override["module"])


def test_relative_imports_of_a_package_start_at_itself():
    assert violations("io", "from .images import read_image", is_package=True) == []
    assert violations("io", "from ..data import features", is_package=True)


@pytest.mark.parametrize("library", ["torchvision", "timm"])
def test_the_environment_holds_nothing_that_replaces_torch(library):
    assert find_spec(library) is None, f"{library} breaks the CPU build of torch: type `make clean`, then `make test`"


@pytest.mark.parametrize("reach", [socket.create_connection, lambda address: socket.socket().connect(address)])
@pytest.mark.parametrize("host", ["192.0.2.1", "nowhere.invalid"])
def test_the_network_is_closed(reach, host):
    with pytest.raises(RuntimeError, match=f"tried to reach '{host}'"):
        reach((host, 443))


def test_loopback_is_open():
    with socket.create_server(("127.0.0.1", 0)) as server:
        socket.create_connection(("localhost", server.getsockname()[1]), timeout=5).close()
