"""Augmentation that keeps image, labels and text consistent."""

from collections.abc import Iterable, Mapping
from typing import Any
from zlib import crc32

import datasets
import numpy as np
import torch

from tevia_hf.data.decoding import decode_example
from tevia_hf.data.features import undecoded
from tevia_hf.data.origin import language_in
from tevia_hf.data.ready import with_sampled_text
from tevia_hf.extras import needed_for
from tevia_hf.labels_tevia import is_lesion
from tevia_hf.option_checks_tevia import check_share
from tevia_hf.prompts import ReportLanguage, flip_text, language_of, may_hold_unknown_side, unknown_sides_warning
from tevia_hf.prompts.rewriting import Axis

with needed_for("Augmentation"):
    from monai.transforms import Compose, RandAdjustContrast, RandGaussianNoise, RandRotated, RandZoomd

ZOOMS = (0.95, 1.2)
ROTATION_DEGREES = 15.0
GAMMAS = (0.7, 1.5)
NOISE_STD = 0.05  # of the image's own intensity range
PARAPHRASES = 128  # per text in a whole training, so that cached features of a frozen text encoder are reused


class TextAwareAugmentation:
    """Random flips, zooms, rotations, contrast, noise and paraphrases; the text is updated where lesions move.

    Takes a mapping with `image` (height, width[, channels]), `labels` (height, width, 255 = ignored), `text` (or None)
    and `id`; returns one with the same keys, sizes and types. The augmentation of an example depends only on `seed`,
    its id and the epoch, so a resumed run or another number of processes or data workers gives the same result. Call
    `set_epoch` before each epoch; otherwise every epoch repeats the first. One of several texts (`all_texts`, see
    `ready_dataset`) is sampled.

    A flip swaps words. A zoom or rotation that changes the number, side or region of the lesions rewrites these words,
    or drops their clauses from free text (`FreeText.follow`); one that would move all lesions out of the image is
    skipped. If a text may hold a side that cannot be rewritten (`prompts.may_hold_unknown_side`: in another language,
    as coordinates, ...), its image is not flipped, and not zoomed or rotated where that would change the number, size
    or place of the lesions. All other random choices do not depend on the text.

    Raises `ValueError` for an example with a `mask`: masks must be decoded to `labels` before they are interpolated.

    Args:
        flip_probability: of mirroring left to right.
        vertical_flip_probability: of mirroring top to bottom.
        zoom_probability: of a zoom by 0.95 to 1.2; the published training zooms with probability 0.1 and nothing else.
        rotation_probability: of a rotation by up to 15 degrees either way.
        intensity_probability: of a gamma of 0.7 to 1.5.
        noise_probability: of Gaussian noise with a standard deviation of up to 5 % of the image's intensity range.
        paraphrase_probability: of a paraphrase of a text in a known language (`ReportLanguage.paraphrase`), applied
            after the other changes; at most 128 paraphrases per text.
        patient_sides: whether "left" in the texts is the patient's left.
    """

    def __init__(
        self,
        flip_probability: float = 0.5,
        zoom_probability: float = 0.1,
        vertical_flip_probability: float = 0.0,
        rotation_probability: float = 0.0,
        intensity_probability: float = 0.0,
        noise_probability: float = 0.0,
        patient_sides: bool = False,
        seed: int = 0,
        paraphrase_probability: float = 0.0,
    ) -> None:
        for name, share in list(locals().items()):
            if name.endswith("_probability"):
                check_share(name, share)
        self.flips: dict[Axis, float] = {"horizontal": flip_probability, "vertical": vertical_flip_probability}
        self.paraphrase_probability = paraphrase_probability
        self.patient_sides = patient_sides
        self.seed = seed
        self.epoch = 0
        keys, angle = ("image", "labels"), np.deg2rad(ROTATION_DEGREES)
        # "nearest" would shift a zoomed mask by up to half a pixel against the image
        zoom = RandZoomd(keys, zoom_probability, *ZOOMS, mode=("bilinear", "nearest-exact"), padding_mode="edge")
        rotate = RandRotated(
            keys, range_x=angle, prob=rotation_probability, mode=("bilinear", "nearest"), padding_mode="border"
        )
        self._moves = Compose([zoom, rotate])
        self._exposures = Compose(
            [RandAdjustContrast(intensity_probability, GAMMAS), RandGaussianNoise(noise_probability, std=NOISE_STD)]
        )

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __call__(self, example: Mapping[str, Any], language: ReportLanguage | None = None) -> dict[str, Any]:
        """The augmented example; `language` is that of its data set, if set."""
        if example.get("mask") is not None:
            raise ValueError("Masks are decoded before they are augmented: give `decode_example(example, num_labels)`.")
        rng = np.random.RandomState([self.seed, self.epoch, crc32(str(example.get("id")).encode())])
        result = with_sampled_text(example, self.seed, self.epoch)
        for axis, probability in self.flips.items():
            is_flipped = rng.random_sample() < probability  # sampled for every text, so that later samples agree
            if is_flipped and not may_hold_unknown_side(result.get("text"), axis):
                result = self._flipped(result, axis, language)
        result = self._moved(result, int(rng.randint(2**31)), language)
        result = {**result, "image": self._exposed(result["image"], seed=int(rng.randint(2**31)))}
        if rng.random_sample() < self.paraphrase_probability and result.get("text"):
            text, number = result["text"], int(rng.randint(PARAPHRASES))
            text_rng = np.random.default_rng([self.seed, crc32(text.encode()), number])
            result["text"] = language_of(text, language).paraphrase(text, text_rng)
        return result

    def unknown_sides_warning(self, texts: Iterable[str | None]) -> str | None:
        """A warning that counts the texts (one per example) whose images cannot be flipped; None without such texts."""
        return unknown_sides_warning(texts, [axis for axis, probability in self.flips.items() if probability])

    def _flipped(self, example: dict[str, Any], axis: Any, language: ReportLanguage | None) -> dict[str, Any]:
        parts, direction = _parts(example), 1 if axis == "horizontal" else 0
        flipped = {**example, **{part: np.ascontiguousarray(np.flip(example[part], direction)) for part in parts}}
        if (text := example.get("text")) and axis == "vertical" and "labels" in parts:
            before, after = (is_lesion(part["labels"]) for part in (example, flipped))
            flipped["text"] = language_of(text, language).flip(text, axis, before, after, self.patient_sides)
        elif text:
            flipped["text"] = flip_text(text, axis)
        return flipped

    def _moved(self, example: dict[str, Any], seed: int, language: ReportLanguage | None) -> dict[str, Any]:
        """The example zoomed and rotated."""
        parts = _parts(example)
        self._moves.set_random_state(seed=seed)
        pixels = {part: _channels_first(example[part]) for part in ("image", "labels") if part in parts}
        moved = self._moves({"labels": pixels["image"][:1], **pixels})
        result = {**example, **{part: _restored(moved[part], example[part]) for part in parts}}
        if "labels" not in parts or np.array_equal(result["labels"], example["labels"]):
            return result
        before, after = (is_lesion(part["labels"]) for part in (example, result))
        if before.any() and not after.any():
            return example
        if text := example.get("text"):
            text_language = language_of(text, language)
            if not text_language.can_follow(text, before, after):
                return example
            result["text"] = text_language.follow(text, before, after, self.patient_sides)
        return result

    def _exposed(self, image: np.ndarray, seed: int) -> np.ndarray:
        """The image with changed contrast and noise, within its original intensity range."""
        self._exposures.set_random_state(seed=seed)
        low, high = float(image.min()), float(image.max())
        unit = (_channels_first(image) - low) / ((high - low) or 1.0)
        exposed = self._exposures(unit)
        is_same = torch.equal(torch.as_tensor(exposed), unit)
        return image if is_same else _restored(exposed.clip(0, 1) * (high - low) + low, image)


def augmented(
    dataset: datasets.Dataset | datasets.IterableDataset,
    augmentation: TextAwareAugmentation,
    num_labels: int | None = 1,
    white_is_lesion: bool | None = None,
) -> datasets.Dataset | datasets.IterableDataset:
    """The data set with each example decoded and augmented when it is accessed: `labels` replace `mask`.

    The model's `num_labels` and the set's `white_is_lesion` define what the values of a mask mean.
    Raises `ValueError` if the data set has no masks.
    """
    language = language_in(dataset)

    def augment_example(example: dict[str, Any]) -> dict[str, Any]:
        return augmentation(decode_example(example, num_labels, white_is_lesion), language)

    def augment_batch(columns: dict[str, list]) -> dict[str, list]:
        examples = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
        results = [augment_example(example) for example in examples]
        return {name: [example[name] for example in results] for name in results[0]}

    if isinstance(dataset, datasets.IterableDataset):
        return dataset.map(augment_example, remove_columns=["mask"])
    if "mask" not in (names := dataset.column_names):
        raise ValueError(f"The data set has the columns {names}, but no 'mask': augment training data only.")
    return undecoded(dataset).with_transform(augment_batch)


def _parts(example: Mapping[str, Any]) -> list[str]:
    return [part for part in ("image", "labels") if example.get(part) is not None]


def _channels_first(pixels: np.ndarray) -> torch.Tensor:
    """(channels, height, width) float32."""
    return torch.from_numpy(np.moveaxis(np.atleast_3d(pixels), -1, 0).astype(np.float32))


def _restored(pixels: torch.Tensor, before: np.ndarray) -> np.ndarray:
    """(channels, height, width) back to the shape and type of the pixels before."""
    array = np.moveaxis(np.asarray(pixels), 0, -1).reshape(before.shape)
    if np.issubdtype(before.dtype, np.floating):
        return array.astype(before.dtype)
    return np.round(array).astype(before.dtype)
