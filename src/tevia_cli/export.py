"""Write a model as ONNX or OpenVINO graphs, checked against torch, for `tevia predict` without its modules."""

import argparse
from contextlib import suppress
from typing import Any

from .options import DATA_OPTIONS, add_data_options, add_number, option_of

FORMATS = ("onnx", "openvino")
OPTIONS = (
    f"--help --to --output-dir --overwrite --int8 --dataset --data-dir {DATA_OPTIONS} --calibration-images "
    "--validation-images --most-dice-lost --seed --white-is-lesion --on-error --cache --no-cache"
).split()
INT8 = "quantize the segmenter to int8 on images of the training split of --dataset, and print the Dice that it loses"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", help="name or folder of a TeViA model")
    parser.add_argument("--to", default="onnx", choices=FORMATS, help="format (default: %(default)s)")
    parser.add_argument("--output-dir", required=True, help="folder to write to")
    parser.add_argument("--overwrite", action="store_true", help="delete an earlier output in the folder")
    parser.add_argument("--int8", action="store_true", help=INT8)
    group = parser.add_argument_group("options of --int8 (extra train)")
    group.add_argument("--dataset", help="name of a data set like those that the model was trained on")
    group.add_argument("--data-dir", help="folder of the data set")
    add_number(group, "calibration_images", "check_count", "images of the training split to calibrate on", default=64)
    add_number(group, "validation_images", "check_count", "images of the validation split for the Dice", default=64)
    most = "largest loss of Dice, as a share of 1, with which the model is written"
    add_number(group, "most_dice_lost", "check_share", most, default=0.005, example="0.005")
    add_number(group, "seed", "check_seed", "seed of the sampled images", default=0)
    with suppress(ImportError):  # an export in float32 needs no data
        add_data_options(group)
        add_data_options(group, "white_is_lesion", "on_error", "cache")
    parser.set_defaults(defaults=vars(parser.parse_args(["MODEL", "--output-dir", "FOLDER"])))


def run(
    model: str,
    output_dir: str,
    to: Any,
    overwrite: bool,
    int8: bool,
    dataset: str | None,
    defaults: dict[str, Any],
    **options: Any,
) -> int:
    from tevia_hf.hub.export import check_libraries, export_model

    given = [option_of(name) for name, value in options.items() if value != defaults[name]]
    if int8 != (dataset is not None) or (given and not int8):
        raise ValueError(
            f"Give --int8 and --dataset together{', and with them ' * bool(given)}{', '.join(given)}: a model is "
            "quantized on images of a data set."
        )
    check_libraries(to)
    calibration = None
    if dataset is not None:
        from tevia_hf.hub.calibration import Calibration

        calibration = Calibration.from_dataset(dataset, **options)
    exported, _ = export_model(model, output_dir, to, overwrite, calibration)
    worst = max(exported.about["largest_difference_of_logits"].values())
    print(f"The exported model is in {output_dir}; its logits differ by at most {worst:.1e} of the largest logit.")
    if int8:
        cost = exported.about["int8"]
        print(
            f"int8: Dice {cost['dice']['int8']:.4f}, in float32 {cost['dice']['float32']:.4f} (lost: "
            f"{cost['dice_lost']:.4f}), on {cost['validated_on']['images']} validation images."
        )
    return 0
