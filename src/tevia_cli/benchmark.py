"""Measure time and memory of a model computed in torch, onnxruntime and OpenVINO on this machine."""

import argparse
from typing import Any

from .options import add_number

MODEL = "name or folder of a TeViA model (default: the published size, with random weights)"
VARIANTS = (
    "what to measure beside plain and fused, in quotes where a name has a space: text once, compiled, bfloat16, onnx, "
    "'onnx int8', openvino, 'openvino bfloat16', 'openvino int8', CLIPSeg, U-Net (default: all but compiled, which "
    "takes minutes, and bfloat16 where the processor emulates it)"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", nargs="?", help=MODEL)
    parser.add_argument("--output-dir", required=True, help="folder to write to")
    parser.add_argument("--variants", nargs="+", metavar="VARIANT", help=VARIANTS)
    side = "of the images, in pixels (default: that of the model's processor)"
    add_number(parser, "side", "check_count", side, example="224", least=32)
    add_number(parser, "tokens", "check_count", "of each text", default=24)
    add_number(parser, "rounds", "check_count", "number of times that each variant is timed", default=10)
    parser.add_argument("--overwrite", action="store_true", help="delete an earlier output in the folder")


def run(output_dir: str, **options: Any) -> int:
    from tevia_hf.benchmark.report import page
    from tevia_hf.benchmark.run import benchmark_model

    costs = benchmark_model(output_dir=output_dir, **options)
    print(f"\n{page(costs)}\nThe page and its figure are in {output_dir}.")
    return 0
