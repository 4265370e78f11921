"""Masks from a model: for examples in memory, or for files on disk."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from datasets.utils import tqdm

from ..data.collate import SegmentationCollator
from ..data.features import decode_part, raise_problems
from ..data.folder import example_id, read_table
from ..io import SUFFIXES, read_image, write_mask
from ..visualization import overlay
from .sentence_features import SentenceFeatureCache


@torch.no_grad()
def predict_masks(
    model,
    processor,
    examples: Sequence[Mapping[str, Any]],
    threshold: float = 0.5,
    batch_size: int = 16,
    description: str = "Predicting",
) -> list[np.ndarray]:
    """A label map uint8 `(height, width)` for each example, at its image's own size.

    Args:
        model, processor: a `TeViAForSegmentation` and its `TeViAProcessor`.
        examples: mappings with "image" (path, picture, array or undecoded column entry) and "text" ("" for none).
        threshold: on the lesion's probability, for models with one label.
    """
    was_training = model.training
    model.eval()
    cache = SentenceFeatureCache(model, processor) if model.config.use_text else None
    collator = SegmentationCollator(processor, sentence_features=cache)
    masks: list[np.ndarray] = []
    for start in tqdm(range(0, len(examples), batch_size), desc=description):
        batch = [load_input(example) for example in examples[start : start + batch_size]]
        inputs = {name: tensor.to(model.device) for name, tensor in collator(batch).items()}
        sizes = [example["image"].shape[:2] for example in batch]
        maps = processor.post_process_segmentation(model(**inputs), target_sizes=sizes, threshold=threshold)
        masks += [label_map.cpu().numpy() for label_map in maps]
    model.train(was_training)
    return masks


def load_input(example: Mapping[str, Any]) -> dict[str, Any]:
    """An example's decoded image `(height, width[, channels])` and its text; its mask is left out."""
    return {"image": decode_part(example, "image"), "text": example["text"], "id": example.get("id")}


def predict(
    model,
    processor,
    images: Sequence[str | Path],
    texts: Sequence[str],
    output_dir: str | Path,
    threshold: float = 0.5,
    batch_size: int = 16,
) -> pd.DataFrame:
    """Writes a mask `NAME.png` and a picture `NAME_overlay.png` for each image file, and says what became of it.

    Args:
        images, texts: one sentence an image, "" for none.
        output_dir: folder to write to; the table goes there too, as `predictions.csv`.

    Returns one row a file: `image, text, mask, overlay, foreground` (share of the picture) and `error`, empty where
    all went well. A file that cannot be read costs its own row only. Raises `ValueError` where counts differ or two
    images would be written to one name.
    """
    names = output_names(images, texts)
    rows = []
    readable = []
    for path, text, name in zip(images, texts, names, strict=True):
        row = {"image": str(path), "text": text, "mask": "", "overlay": "", "foreground": float("nan"), "error": ""}
        try:
            readable.append((row, {"image": read_image(path), "text": text, "id": name}))
        except (ValueError, OSError) as error:
            row["error"] = str(error)
        rows.append(row)
    masks = predict_masks(model, processor, [example for _, example in readable], threshold, batch_size)
    for (row, example), mask in zip(readable, masks, strict=True):
        row.update(write_prediction(Path(output_dir), example, mask, model.config.num_labels))
    table = pd.DataFrame(rows)
    table.to_csv(Path(output_dir) / "predictions.csv", index=False)
    return table


def output_names(images: Sequence[str | Path], texts: Sequence[str]) -> list[str]:
    """The stem of each image; `ValueError` where two share one, or texts and images differ in number."""
    if len(images) != len(texts):
        raise ValueError(f"{len(images)} images but {len(texts)} texts: give one text an image, '' for none.")
    names = [Path(path).stem for path in images]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"Images share the names {repeated[:5]} and so their output: predict them in separate calls.")
    return names


def list_images(paths: Sequence[str | Path]) -> list[Path]:
    """The image files among files and folders (not their subfolders), sorted within a folder.

    Raises `ValueError` where a path does not exist or a folder holds no image.
    """
    images: list[Path] = []
    for path in map(Path, paths):
        found = sorted(p for p in path.iterdir() if p.suffix.lower() in SUFFIXES) if path.is_dir() else [path]
        if not found or not path.exists():
            raise ValueError(f"No image at {path}: give image files, or folders with {', '.join(SUFFIXES)} files.")
        images += found
    return images


def sentences_from_table(table_path: str | Path, images: Sequence[str | Path]) -> list[str]:
    """The sentence of each image from a CSV or xlsx with the columns `Image` and `Description`; "" where that is empty.

    Raises `ValueError` for images without a row, several rows of one image, and rows without an image.
    """
    table = read_table(Path(table_path))
    ids = [example_id(name) for name in table["Image"]]
    wanted = [example_id(Path(image).name) for image in images]
    problems = [f"'{name}' has no row" for name in wanted if name not in set(ids)]
    problems += [f"'{name}' has several rows" for name in sorted({name for name in ids if ids.count(name) > 1})]
    problems += [f"row '{name}' has no image" for name in ids if name not in set(wanted)]
    raise_problems(
        str(table_path), problems, "Each image needs one row; leave Description empty for an image without text."
    )
    sentences = dict(zip(ids, table["Description"], strict=True))
    return [sentences[name] or "" for name in wanted]


def write_prediction(folder: Path, example: Mapping[str, Any], mask: np.ndarray, num_labels: int) -> dict[str, Any]:
    mask_path = write_mask(folder / f"{example['id']}.png", mask, num_labels)
    overlay_path = folder / f"{example['id']}_overlay.png"
    overlay(example["image"], mask).save(overlay_path)
    return {"mask": str(mask_path), "overlay": str(overlay_path), "foreground": float((mask > 0).mean())}
