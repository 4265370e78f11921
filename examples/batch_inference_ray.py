"""Writes masks on the machines of a Ray cluster, and a parquet table of them; needs the extra `ray`.

    python examples/batch_inference_ray.py hub_configs/tevia-tiny images.parquet outputs/masks

In place of a parquet file with the columns `id`, `image` and `text`, give a folder of images and `--text`. All machines
must read the model, and write to the output folder, by the same path. `RAY_ADDRESS` names the cluster, and
`RAY_USAGE_STATS_ENABLED=0` keeps Ray from sending usage reports.
"""

import argparse
from pathlib import Path

import ray
import torch

from tevia_hf import Predictor, TeViAForSegmentation, TeViAProcessor, write_mask


class Segmenter:
    """Loads the model once, and then writes the masks of batches."""

    def __init__(self, model: str, masks: Path):
        network = TeViAForSegmentation.from_pretrained(model).to("cuda" if torch.cuda.is_available() else "cpu")
        self.predictor = Predictor(network, TeViAProcessor.from_pretrained(model))
        self.masks, self.num_labels = masks, network.config.num_labels

    def __call__(self, batch):
        rows = zip(batch["id"], batch["image"], batch["text"], strict=True)
        requests = [({"id": name, "image": image}, [text or ""]) for name, image, text in rows]
        results = {"id": batch["id"], "text": batch["text"], "foreground": [], "error": []}
        for prediction in self.predictor.predictions(requests):
            for mask in prediction.masks:  # one, as there is one text; none after an error
                write_mask(self.masks / f"{prediction.name}.png", mask, self.num_labels)
            results["foreground"].append((prediction.masks[0] > 0).mean() if prediction.masks else float("nan"))
            results["error"].append(str(prediction.error or ""))
        return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="name or folder of a TeViA model")
    for name in ("images", "masks"):
        parser.add_argument(name, type=lambda path: Path(path).resolve())
    parser.add_argument("--text", default="", help="for all images of a folder")
    args = parser.parse_args()

    if args.images.is_dir():
        files = [{"id": path.stem, "image": str(path), "text": args.text} for path in sorted(args.images.iterdir())]
        rows = ray.data.from_items(files)
    else:
        rows = ray.data.read_parquet(str(args.images))
    gpus = int(ray.cluster_resources().get("GPU", 0))
    actors = ray.data.ActorPoolStrategy(min_size=1, max_size=gpus or int(ray.cluster_resources()["CPU"]))
    options = {"batch_size": 16, "num_gpus": 1 if gpus else None, "compute": actors}
    results = rows.map_batches(Segmenter, fn_constructor_args=(args.model, args.masks), **options)
    results.write_parquet(str(args.masks / "table"))


if __name__ == "__main__":
    main()
