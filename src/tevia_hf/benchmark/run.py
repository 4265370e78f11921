"""What `tevia benchmark` measures: the time and memory of a model computed in different ways on this machine."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from tqdm.auto import tqdm

from ..extras import needed_for
from ..hub.export import check_libraries
from ..inference.loading import has_bfloat16
from ..io.output_dir import check_output_dir, claim_output_dir, write_whole
from ..option_checks_tevia import check_choice, check_count
from .machine import Machine, interleaved
from .memory import peak_of
from .report import Costs, draw_costs, page
from .time_shares import time_shares
from .variants import GRAPHS, VARIANTS, Case, Inputs, Subject, megabytes, weights_mb

BATCHES = (1, 8)
SWEEPS: dict[str, tuple[int, ...]] = {
    "side": (96, 160, 224, 320, 448, 640),
    "batch": (1, 2, 4, 8, 16),
    "tokens": (4, 16, 32, 64),
}


def benchmark_model(
    model: str | None = None,
    output_dir: str | Path = "outputs/benchmark",
    variants: Sequence[str] | None = None,
    side: int | None = None,
    tokens: int = 24,
    rounds: int = 10,
    overwrite: bool = False,
) -> Costs:
    """Measures a model computed in different ways, and writes `performance.md`, `costs.png` and `benchmark.json`.

    "plain" is the model as `from_pretrained` loads it, which encodes the text for every image; CLIPSeg and MONAI's
    U-Net have random weights.

    Args:
        model: name or folder; by default random weights in the published size, ConvNeXt-Tiny with BERT-base.
        output_dir: folder to write to.
        variants: names of `VARIANTS`, of which "plain" and "fused" are always measured; by default all but "compiled",
            which takes minutes, and those in bfloat16 on a processor that only emulates it.
        side: of the images, in pixels; by default that of the model's processor, and 224 for random weights.
        tokens: of each text.
        rounds: number of times that each variant is timed, in turns; the medians count.
        overwrite: delete an earlier output in the folder.

    Raises `ValueError` for an unknown variant and for numbers out of range, and `MissingExtraError` for a variant whose
    library is missing.
    """
    variants = usual_variants() if variants is None else variants
    for name in variants:
        check_choice("variant", name, VARIANTS)
    for name, value, least in (("side", side, 32), ("tokens", tokens, 1), ("rounds", rounds, 1)):
        if value is not None:
            check_count(name, value, least=least)
    names = [name for name in VARIANTS if name in {"plain", "fused", *variants}]
    folder = Path(output_dir)
    check_output_dir(folder, overwrite=overwrite, inputs=[model])
    check_libraries_of(names)
    with TemporaryDirectory() as graphs, torch.no_grad():
        subject = Subject(model, Path(graphs))
        side = subject.usual_side if side is None else side
        check_size(subject, side, tokens)
        costs = measured(subject, names, Case(1, side, tokens), rounds)
    claim_output_dir(folder, overwrite=overwrite, inputs=[model])
    draw_costs(costs, folder / "costs.png")
    write_whole(folder / "benchmark.json", costs.as_json())
    write_whole(folder / "performance.md", page(costs))
    return costs


def usual_variants() -> list[str]:
    """Those that are measured by default."""
    without_bfloat16 = [name for name in VARIANTS if "bfloat16" not in name]
    return [name for name in (VARIANTS if has_bfloat16() else without_bfloat16) if name != "compiled"]


def check_libraries_of(names: Sequence[str]) -> None:
    """Raises `MissingExtraError` for a library that a variant or the figure needs, before anything is measured."""
    for to in dict.fromkeys(GRAPHS[name].to for name in names if name in GRAPHS):
        check_libraries(to)
    with needed_for("A benchmark"):
        import matplotlib as matplotlib

        if "U-Net" in names:
            import monai as monai


def check_size(subject: Subject, side: int, tokens: int) -> None:
    """Raises `ValueError` for more than the model takes."""
    for name, value, most in (
        ("side", side, subject.largest_side),
        ("tokens", tokens, subject.model.config.max_text_length),
    ):
        if value > most:
            raise ValueError(f"`{name}` is {value}, of which the model takes {most}: give at most that.")


def measured(subject: Subject, names: Sequence[str], case: Case, rounds: int) -> Costs:
    """All figures of a benchmark."""
    text_encoder = megabytes(subject.model.model.text_parts.encoder) if subject.model.config.use_text else 0
    name = subject.given or "ConvNeXt-Tiny with BERT-base, random weights"
    costs = Costs(name, Machine.measured(), case, rounds, megabytes(subject.model) - text_encoder)
    costs.rows = rows_of(subject, names, case, rounds)
    costs.time_shares = time_shares(VARIANTS["fused"](subject, Inputs.of(case)), rounds)
    costs.large = large_rows(subject, case, rounds)
    costs.sweeps = {axis: list(sweep(subject, case, axis, rounds)) for axis in SWEEPS}
    costs.machine = costs.machine.best(Machine.measured())  # as other work can slow either of the two
    return costs


def rows_of(subject: Subject, names: Sequence[str], case: Case, rounds: int) -> list[dict[str, Any]]:
    """The rows of the table, by batch and variant."""
    peaks = {name: peak_of(name, subject, case) for name in tqdm(names, "Memory of each variant")}
    rows = []
    for batch in BATCHES:
        inputs = Inputs.of(case._replace(batch=batch))
        acts = {name: VARIANTS[name](subject, inputs) for name in names}
        times = interleaved(acts, rounds)
        for name in tqdm(names, f"Batches of {batch}"):
            source = "fused" if name in (*GRAPHS, "compiled") else name  # which computes the same and can be counted
            gflop = operations(VARIANTS[source](subject, inputs)) / batch / 1e9
            seconds = times[name] / batch
            row = {"variant": name, "batch": batch, "ms": 1e3 * seconds, "images_per_second": 1 / seconds}
            row |= {"speedup": times["plain"] / times[name], "gflop": gflop}
            rows.append(row | {"weights_mb": weights_mb(subject, name), "peak_mb": peaks[name] if batch == 1 else None})
    return rows


def operations(act: Any) -> int:
    """The number of additions and multiplications of matrix products and convolutions, as torch counts them."""
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:  # others are not counted on the CPU
        act()
    return counter.get_total_flops()


def large_rows(subject: Subject, case: Case, rounds: int) -> list[dict[str, Any]]:
    """The time and memory of one image of the usual size and of a large one, by the fused model."""
    cases = {side: case._replace(side=side) for side in (case.side, subject.largest_side)}
    acts = {str(side): VARIANTS["fused"](subject, Inputs.of(own)) for side, own in cases.items()}
    times = interleaved(acts, rounds)
    return [
        {
            "side": side,
            "ms": 1e3 * times[str(side)],
            "ns_per_pixel": 1e9 * times[str(side)] / side**2,
            "peak_mb": peak_of("fused", subject, own),
        }
        for side, own in cases.items()
    ]


def sweep(subject: Subject, case: Case, axis: str, rounds: int) -> Iterator[dict[str, Any]]:
    """The time and operations of each image, by the fused model, for the values of one size."""
    most = {"side": subject.largest_side, "tokens": subject.model.config.max_text_length}
    for value in SWEEPS[axis]:
        if value > most.get(axis, value):
            continue
        own = case._replace(**{axis: value})
        act = VARIANTS["fused"](subject, Inputs.of(own))
        seconds = interleaved({"": act}, max(3, rounds // 2))[""] / own.batch
        yield {"value": value, "ms": 1e3 * seconds, "gflop": operations(act) / own.batch / 1e9}
