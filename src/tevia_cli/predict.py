"""Write masks and overlays for image files, with one text for all or a table of texts."""

import argparse
import sys
from typing import Any, get_args

from .options import add_dtype, add_number, add_tiling, checked

OPTIONS = (
    "--help --text --text-table --window --plane --series --mask-suffix --threshold --batch-size --tile --overlap "
    "--no-overlays --probabilities --statistics --device --dtype --on-error --output-dir --resume --overwrite "
    "--shard --merge --engine"
).split()
IMAGES = (
    "image files, volumes or folders, slices as scan.nii.gz#40 or scan.dcm#3; or one table (CSV, xlsx, parquet) or "
    "saved data set with a row for each mask"
)
TEXT = "the text for every image (default: none); 'left' is the left side of the image"
TABLE = (
    "CSV or xlsx with the columns Image, Description and, if given, Name (of the mask); several rows for several texts"
)
WINDOW = "window centre and width of DICOM and NIfTI images (write --window=-600,1500)"
PLANE = "of the slices of NIfTI volumes (default: the one in which they are stored)"
SERIES = "number, UID or description of the series to take from a folder of DICOM files that holds several"
STATISTICS = "measure each lesion: area, volume, diameter, centre and side, in mm where known (lesions.csv)"
ON_ERROR = "report an image that cannot be read or predicted in its row, or stop there (default: %(default)s)"
SHARD = "predict a part of the images, as one of N processes: 0/N, 1/N, ... (set by torchrun)"
ENGINE = "where to predict: in this process, or on the nodes of a Ray cluster (extra ray; default: %(default)s)"
MERGE = "put together the table of what the shards have finished, and report what is missing"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from tevia_hf.inference.shards import parse_shard
    from tevia_hf.io import MASK_SUFFIXES, parse_window
    from tevia_hf.io.address import Plane

    parser.add_argument("model", help="name or folder of a TeViA model")
    parser.add_argument("images", nargs="+", help=IMAGES)
    texts = parser.add_mutually_exclusive_group()
    texts.add_argument("--text", default="", help=TEXT)
    texts.add_argument("--text-table", help=TABLE)
    parser.add_argument("--window", type=checked(parse_window), help=WINDOW)
    parser.add_argument("--plane", choices=get_args(Plane), help=PLANE)
    parser.add_argument("--series", help=SERIES)
    suffix = "of the masks of images (default: %(default)s); volumes have .nii.gz unless this is .nii"
    parser.add_argument("--mask-suffix", default=".png", choices=MASK_SUFFIXES, help=suffix)
    add_number(parser, "threshold", "check_share", "on the probability, from 0 to 1", default=0.5)
    add_number(parser, "batch_size", "check_count", "images per batch", default=16)
    add_tiling(parser)
    parser.add_argument("--no-overlays", dest="overlays", action="store_false", help="write masks only")
    parser.add_argument("--probabilities", action="store_true", help="write float16 maps of the probabilities (.npy)")
    parser.add_argument("--statistics", action="store_true", help=STATISTICS)
    parser.add_argument("--device", help="device to compute on, e.g. cuda:1 (default: the GPU, if there is one)")
    add_dtype(parser)
    parser.add_argument("--on-error", default="skip", choices=("skip", "raise"), help=ON_ERROR)
    parser.add_argument("--output-dir", required=True, help="folder to write to")
    parser.add_argument("--resume", action="store_true", help="continue an interrupted job in the folder, or begin it")
    parser.add_argument("--overwrite", action="store_true", help="delete an earlier output in the folder")
    parser.add_argument("--shard", type=checked(parse_shard), metavar="I/N", help=SHARD)
    parser.add_argument("--merge", action="store_true", help=MERGE)
    parser.add_argument("--engine", default="local", choices=("local", "ray"), help=ENGINE)


def run(output_dir: str, shard: Any, **options: Any) -> int:
    from tevia_hf.inference.predict import predict_files
    from tevia_hf.inference.shards import shard_of_process

    own = shard or shard_of_process()
    rows = predict_files(output_dir=output_dir, shard=own, as_rows=True, **options)
    failed, missing = ([row for row in rows if row["status"] == status] for status in ("failed", "missing"))
    for row in failed:
        print(row["error"], file=sys.stderr)
    if missing:
        print(
            f"{len(missing)} masks are missing, e.g. that of {missing[0]['image']}: repeat their shards with "
            "--resume, or the whole command without --shard and --merge.",
            file=sys.stderr,
        )
    part = f" of shard {own.index}/{own.count}" if own.count > 1 else ""
    print(f"\n{len(rows) - len(failed) - len(missing)} of {len(rows)} masks{part} are in {output_dir}.")
    # A launcher would end the other processes if one of them failed; the merge reports what has failed.
    is_launched = shard is None and own.count > 1
    return 1 if (failed or missing) and not is_launched else 0
