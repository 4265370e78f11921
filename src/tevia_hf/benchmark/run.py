"""What `tevia benchmark` measures: the time and memory of a model computed in different ways on this machine."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode
from tqdm.auto import tqdm

from ..io.output_dir import claim_output_dir, write_whole
from ..option_checks_tevia import check_choice, check_count
from .machine import Machine, interleaved
from .memory import peak_of
from .report import Costs, draw_costs, page
from .variants import GRAPHS, VARIANTS, Case, Inputs, Subject

USUAL = tuple(name for name in VARIANTS if name not in ("compiled", "bfloat16"))
BATCHES = (1, 8)
LARGE = 1024  # pixels of a side
SWEEPS: dict[str, tuple[int, ...]] = {
    "side": (96, 160, 224, 320, 448, 640),
    "batch": (1, 2, 4, 8, 16),
    "tokens": (4, 16, 32, 64),
}


def benchmark_model(
    model: str | None = None,
    output_dir: str | Path = "outputs/benchmark",
    variants: Sequence[str] | None = None,
    side: int = 224,
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
            which takes minutes, and "bfloat16".
        side: of the images, in pixels.
        tokens: of each text.
        rounds: number of times that each variant is timed, in turns; the medians count.
        overwrite: delete an earlier output in the folder.

    Raises `ValueError` for an unknown variant and for numbers out of range, and `MissingExtraError` for a variant whose
    library is missing.
    """
    variants = USUAL if variants is None else variants
    for name in variants:
        check_choice("variant", name, VARIANTS)
    for name, value in (("side", side), ("tokens", tokens), ("rounds", rounds)):
        check_count(name, value)
    folder = Path(output_dir)
    claim_output_dir(folder, overwrite=overwrite, inputs=[model])
    names = [name for name in VARIANTS if name in {"plain", "fused", *variants}]
    with TemporaryDirectory() as graphs, torch.no_grad():
        subject, case = Subject(model, Path(graphs)), Case(1, side, tokens)
        weights = 4 * sum(tensor.numel() for tensor in subject.model.state_dict().values()) / 1e6
        name = model or "ConvNeXt-Tiny with BERT-base, random weights"
        costs = Costs(name, Machine.measured(), case, rounds, weights)
        costs.rows = rows_of(subject, names, case, rounds, costs.machine.gflops)
        costs.large = [row_of_side(subject, case._replace(side=each), rounds) for each in (side, LARGE)]
        costs.sweeps = {axis: list(sweep(subject, case, axis, rounds)) for axis in SWEEPS}
    draw_costs(costs, folder / "costs.png")
    write_whole(folder / "benchmark.json", costs.as_json())
    write_whole(folder / "performance.md", page(costs))
    return costs


def rows_of(subject: Subject, names: Sequence[str], case: Case, rounds: int, gflops: float) -> list[dict[str, Any]]:
    """The rows of the table, by batch and variant."""
    peaks = {name: peak(subject, name, case) for name in tqdm(names, "Memory of each variant")}
    rows = []
    for batch in BATCHES:
        inputs = Inputs.of(case._replace(batch=batch))
        acts = {name: VARIANTS[name](subject, inputs) for name in names}
        times = interleaved(acts, rounds)
        for name in tqdm(names, f"Batches of {batch}"):
            source = "fused" if name in GRAPHS else name  # whose operations graphs compute
            gflop = operations(VARIANTS["plain" if name == "compiled" else source](subject, inputs)) / batch / 1e9
            seconds = times[name] / batch
            row = {"variant": name, "batch": batch, "ms": 1e3 * seconds, "images_per_second": 1 / seconds}
            row |= {"speedup": times["plain"] / times[name], "gflop": gflop, "share": gflop / seconds / gflops}
            rows.append(row | {"peak_mb": peaks[name] if batch == 1 else None})
    return rows


def operations(act: Any) -> int:
    """The number of additions and multiplications of matrix products and convolutions, as torch counts them."""
    with FlopCounterMode(display=False) as counter:
        act()
    return counter.get_total_flops()


def peak(subject: Subject, name: str, case: Case) -> float:
    """The peak memory of a variant in a process of its own, in 1e6 bytes."""
    if name not in GRAPHS:
        return peak_of(name, subject.given, subject.folder, None, case)
    to, int8 = GRAPHS[name]
    model = subject.exported(to, int8)
    return peak_of(name, subject.given, subject.graphs(to, int8), dict(model.about), case)


def row_of_side(subject: Subject, case: Case, rounds: int) -> dict[str, Any]:
    """The time and memory of one image of a side, by the fused model."""
    seconds = interleaved({"": VARIANTS["fused"](subject, Inputs.of(case))}, rounds)[""]
    row = {"side": case.side, "ms": 1e3 * seconds, "ns_per_pixel": 1e9 * seconds / case.side**2}
    return row | {"peak_mb": peak(subject, "fused", case)}


def sweep(subject: Subject, case: Case, axis: str, rounds: int) -> Iterator[dict[str, Any]]:
    """The time and operations of each image, by the fused model, for the values of one size."""
    longest = subject.model.config.max_text_length
    for value in SWEEPS[axis]:
        if axis == "tokens" and value > longest:
            continue
        own = case._replace(**{axis: value})
        act = VARIANTS["fused"](subject, Inputs.of(own))
        seconds = interleaved({"": act}, max(3, rounds // 2))[""] / own.batch
        yield {"value": value, "ms": 1e3 * seconds, "gflop": operations(act) / own.batch / 1e9}
