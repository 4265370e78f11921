"""Write a model as ONNX or OpenVINO graphs, checked against torch, for `tevia predict` without its modules."""

import argparse
from typing import Any

FORMATS = ("onnx", "openvino")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", help="name or folder of a TeViA model")
    parser.add_argument("--to", default="onnx", choices=FORMATS, help="format (default: %(default)s)")
    parser.add_argument("--output-dir", required=True, help="folder to write to")
    parser.add_argument("--overwrite", action="store_true", help="delete an earlier output in the folder")


def run(output_dir: str, **options: Any) -> int:
    from tevia_hf.hub.export import export_model

    exported, _ = export_model(output_dir=output_dir, **options)
    worst = max(exported.about["largest_difference_of_logits"].values())
    print(f"The exported model is in {output_dir}; its logits differ by at most {worst:.1e} of the largest.")
    return 0
