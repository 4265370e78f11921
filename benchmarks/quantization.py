"""Time and Dice of models exported in float32 and int8, as `tevia export MODEL [--int8 --dataset NAME]` writes them.

    python benchmarks/quantization.py SIDE FLOAT32 INT8 [FLOAT32 INT8 ...]

Prints a Markdown table with a row for each pair of folders. Times are of the segmenter for one image of this side with
the text of the model's greatest length, on one thread: the processor time that the process used, which other work on
the machine disturbs less than the time by the clock, as medians of interleaved runs. Dice and nodes are those that
`export.json` tells. After the table comes a profile of each onnxruntime graph: its slowest kinds of operations.
"""

import json
import os
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from statistics import median

import numpy as np
import onnxruntime

from tevia_hf import load_exported

ROUNDS = 15
SHOWN = 8  # kinds of operations in a profile


def inputs_of(exported, side: int) -> dict[str, np.ndarray]:
    """Random pixels, and features of a random text without padding."""
    rng, tokens = np.random.default_rng(0), exported.config.max_text_length
    inputs = {"pixel_values": rng.standard_normal((1, 3, side, side)).astype(np.float32)}
    if exported.config.use_text:
        ids, mask = np.full((1, tokens), 5), np.ones((1, tokens), np.int64)
        inputs |= {"text_features": exported.encode_text(ids, mask), "attention_mask": mask}
    return inputs


def milliseconds(graphs, inputs: dict[str, np.ndarray]) -> list[float]:
    """The median time of each graph; the first run of each is not measured."""
    times: list[list[float]] = [[] for _ in graphs]
    for _ in range(ROUNDS + 1):
        for graph, own in zip(graphs, times, strict=True):
            start = time.process_time()
            graph(inputs)
            own.append(1e3 * (time.process_time() - start))
    return [median(own[1:]) for own in times]


def profile(file: Path, inputs: dict[str, np.ndarray]) -> str:
    """The slowest kinds of operations of an ONNX graph, in ms per image."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.enable_profiling = 1, True
    with tempfile.TemporaryDirectory() as root:
        options.profile_file_prefix = f"{root}/profile"
        session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
        for _ in range(ROUNDS):
            session.run(None, inputs)
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    spent: Counter[str] = Counter()
    for event in events:
        if event["name"].endswith("_kernel_time"):
            spent[event["args"]["op_name"]] += event["dur"] / ROUNDS / 1e3
    return ", ".join(f"{name} {ms:.1f}" for name, ms in spent.most_common(SHOWN))


def main(side: str, *folders: str) -> None:
    os.environ["OMP_NUM_THREADS"] = "1"
    profiles = []
    print(f"| model | format | ms at {side} px, float32 | int8 | ratio | Dice float32 | int8 | quantized nodes |")
    print("|---|---|---|---|---|---|---|---|")
    for pair in zip(folders[::2], folders[1::2], strict=True):
        exported = [load_exported(folder)[0] for folder in pair]
        inputs = inputs_of(exported[0], int(side))
        before, after = milliseconds([each.segmenter for each in exported], inputs)
        about, cost = exported[1].about, exported[1].about["int8"]
        dice = f"{cost['dice']['float32']:.4f} | {cost['dice']['int8']:.4f}"
        nodes = ", ".join(f"{count} {name}" for name, count in cost["quantized_nodes"].items())
        times = f"{before:.1f} | {after:.1f} | {before / after:.2f}"
        print(f"| {Path(about['model']).name} | {about['format']} | {times} | {dice} | {nodes} |")
        if about["format"] == "onnx":
            profiles += [f"{folder}: {profile(Path(folder, 'segmenter.onnx'), inputs)}" for folder in pair]
    print(*("", *profiles), sep="\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
