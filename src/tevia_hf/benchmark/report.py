"""The page and the figure of a benchmark."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..charts import curves_chart
from .machine import Machine
from .variants import Case


@dataclass
class Costs:
    """The figures of a benchmark.

    Args:
        model: what was measured.
        machine: where.
        case: the sizes of the table, for one image.
        rounds: of which times are medians.
        weights_mb: size of the weights in float32 that every batch reads, without the text encoder, in 1e6 bytes.
        rows: one for each variant and batch: `variant, batch, ms` per image, `images_per_second, speedup` against
            "plain", `gflop` per image, `weights_mb`, and `peak_mb` for one image.
        time_shares: operation of torch -> its share of the time of the fused model, for one image.
        large: one row for each side: `side, ms, ns_per_pixel, peak_mb` of one image in one pass.
        sweeps: side, batch or tokens -> rows `value, ms, gflop` per image.
    """

    model: str
    machine: Machine
    case: Case
    rounds: int
    weights_mb: float
    rows: list[dict[str, Any]] = field(default_factory=list)
    time_shares: dict[str, float] = field(default_factory=dict)
    large: list[dict[str, Any]] = field(default_factory=list)
    sweeps: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    def as_json(self) -> str:
        return (
            json.dumps({**vars(self), "machine": self.machine._asdict(), "case": self.case._asdict()}, indent=2) + "\n"
        )


ABOUT = {
    "plain": "torch as `from_pretrained` gives it, the text encoded for every image",
    "text once": "as plain, with features of the text given",
    "fused": "`model.fuse_for_inference()`, with features of the text given, as `tevia predict` computes",
    "compiled": "the fused model by `torch.compile`",
    "bfloat16": "the fused model in bfloat16 (`--dtype bfloat16`), made from weights in float32",
    "onnx": "`tevia export`, in onnxruntime",
    "onnx int8": "`tevia export --int8`, in onnxruntime",
    "openvino": "`tevia export --to openvino`",
    "openvino bfloat16": "`tevia export --to openvino`, in bfloat16 (`--dtype bfloat16`)",
    "openvino int8": "`tevia export --to openvino --int8`",
    "CLIPSeg": "transformers' CLIPSeg (ViT-B/16, text encoder included), random weights",
    "U-Net": "MONAI's U-Net (16 to 256 channels, two residual units; no text), random weights",
}


def page(costs: Costs) -> str:
    """The page `performance.md`."""
    batches = dict.fromkeys(row["batch"] for row in costs.rows)
    tables = [variant_table(costs, batch) for batch in batches]
    titles = ["One image" if batch == 1 else f"Batches of {batch}" for batch in batches]
    sections = [f"## {title}\n\n{table}" for title, table in zip(titles, tables, strict=True)]
    parts = [heading(costs), *sections, legend(costs), time_table(costs), large_images(costs), figure_text(costs)]
    return "\n".join(parts) + "\n"


def heading(costs: Costs) -> str:
    machine, case = costs.machine, costs.case
    fastest, slowest = range_of_one_image(costs)
    return f"""# Performance

Written by `tevia benchmark`. Model: {costs.model}. Images of {case.side} px, texts of {case.tokens} tokens,
float32 unless another type is named. Machine: {machine.processor}, {machine.kind}, {machine.threads} threads,
{machine.gflops:.0f} GFLOP/s in products of matrices of 2,048 rows and columns, {machine.gbytes:.1f} GB/s read from
memory.

Times are medians of {costs.rounds} rounds, in which the variants take turns; sections are measured one after the other,
and other work on the machine disturbs them: one image took the fused model {fastest:.0f} ms in one, {slowest:.0f} in
another. Peak memory is that of a process which loads the model and computes one image, for exported models without
torch. In torch it includes the whole file of the weights, as `from_pretrained` reads it to check for NaN; the system
can reuse that part. GFLOP are counted by torch, on the fused model for compiled and exported ones. "Share" is that of
the rate of matrix products in float32, which bfloat16 and int8 can exceed.
"""


def range_of_one_image(costs: Costs) -> tuple[float, float]:
    """The least and the greatest of the times, in ms, that all sections tell for one image and the fused model."""
    times = [row["ms"] for row in costs.rows if (row["variant"], row["batch"]) == ("fused", 1)]
    times += [row["ms"] for row in costs.large if row["side"] == costs.case.side]
    usual = costs.case._asdict()
    times += [row["ms"] for axis, rows in costs.sweeps.items() for row in rows if row["value"] == usual[axis]]
    return min(times), max(times)


def legend(costs: Costs) -> str:
    """What the variants are."""
    names = dict.fromkeys(row["variant"] for row in costs.rows)
    return "\n".join(["| variant | what it is |", "|---|---|", *(f"| {name} | {ABOUT[name]} |" for name in names), ""])


def time_table(costs: Costs) -> str:
    """The shares of operations."""
    others = 1 - sum(costs.time_shares.values())
    rows = [f"| `{name}` | {share:.0%} |" for name, share in costs.time_shares.items()]
    table = "\n".join(["| operation | share |", "|---|---|", *rows, f"| others | {others:.0%} |"])
    return f"""## Where the time goes

The fused model, one image: the shares of torch's operations (`addmm` computes linear layers).

{table}
"""


def large_images(costs: Costs) -> str:
    small, large = costs.large
    rows = [
        f"| {row['side']} | {row['ms']:.0f} | {row['ns_per_pixel']:.0f} | {row['peak_mb']:.0f} |" for row in costs.large
    ]
    table = "\n".join(["| side, px | ms | ns per pixel | peak MB |", "|---|---|---|---|", *rows])
    ratio = large["ns_per_pixel"] / small["ns_per_pixel"]
    return f"""## Large images in one pass

{table}

One image, fused model. A pixel of the larger image takes {ratio:.2f} times as long.
"""


def variant_table(costs: Costs, batch: int) -> str:
    rows = [row for row in costs.rows if row["batch"] == batch]
    has_memory = rows[0]["peak_mb"] is not None
    lines = ["| variant | images/s | ms per image | against plain | GFLOP | share | weights MB |"]
    lines[0] += " peak MB |" * has_memory
    lines.append("|---|---|---|---|---|---|---|" + "---|" * has_memory)
    for row in rows:
        own = f"| {row['variant']} | {row['images_per_second']:.1f} | {row['ms']:.1f} | {row['speedup']:.2f}x "
        share = 1e3 * row["gflop"] / row["ms"] / costs.machine.gflops
        own += f"| {row['gflop']:.1f} | {share:.0%} | {row['weights_mb']:.0f} |"
        lines.append(own + (f" {row['peak_mb']:.0f} |" if has_memory else ""))
    return "\n".join(lines) + "\n"


def figure_text(costs: Costs) -> str:
    return f"""## Cost against size

![Milliseconds per image against side, batch and tokens](costs.png)

The fused model, with the other sizes as above. The floor is the larger of two times: that of the operations at the
rate of matrix products, and that of reading the weights once for each batch ({costs.weights_mb:.0f} MB, without those
of the text encoder)."""


def floor_ms(costs: Costs, gflop: float, batch: int) -> float:
    """The least milliseconds per image that the machine allows."""
    return 1e3 * max(gflop / costs.machine.gflops, costs.weights_mb / 1e3 / costs.machine.gbytes / batch)


def draw_costs(costs: Costs, path: Path) -> None:
    """Writes the figure: measured time and floor, against each size."""
    panels = {}
    for axis, rows in costs.sweeps.items():
        floors = [floor_ms(costs, row["gflop"], row["value"] if axis == "batch" else costs.case.batch) for row in rows]
        curves = {"measured": [row["ms"] for row in rows], "floor": floors}
        panels[AXES[axis]] = ([row["value"] for row in rows], curves)
    curves_chart(panels, "ms per image").save(path)


AXES = {"side": "side of the image, px", "batch": "images in a batch", "tokens": "tokens of a text"}
