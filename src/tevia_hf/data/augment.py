"""Augmentation that keeps image, labels and text true of each other."""

from collections.abc import Iterable, Mapping
from typing import Any
from zlib import crc32

import datasets
import numpy as np
import torch

from tevia_hf.data.decoding import decode_example
from tevia_hf.data.features import undecoded
from tevia_hf.data.origin import language_in
from tevia_hf.data.ready import with_drawn_text
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
NOISE_STD = 0.05  # of the picture's own range
PARAPHRASES = 128  # of one text in a whole training, so that a frozen text encoder meets those of common texts again


class TextAwareAugmentation:
    """Random flips, zooms, rotations, contrasts, noise and wordings; the text follows whatever moves the lesions.

    Takes a mapping with `image` (height, width[, channels]), `labels` (height, width, 255 where they are ignored),
    `text` (or None) and `id`; gives one with the same keys, sizes and types. What is drawn for an example depends on
    nothing but `seed`, its id and the epoch: a resumed run, other numbers of processes or of data workers draw the
    same. Call `set_epoch` before each epoch, else every epoch repeats the draws of the first. Of several texts
    (`all_texts`, see `ready_dataset`) one is drawn.

    A flip swaps words. A zoom or rotation that changes the number, side or region of the lesions rewrites these words,
    or drops their clauses from free text (`FreeText.follow`); one that would move all lesions out of the image is
    not carried out. A text that may hold a side that nobody can rewrite (`prompts.may_hold_unknown_side`: in another
    language, as coordinates, ...) keeps its image from being flipped, and from a zoom or rotation that changes number,
    size or place of the lesions. All else is drawn as it would be for another text.

    Raises `ValueError` for a `mask`, of which nobody knows what its values mean once it has been moved.

    Args:
        flip_probability, vertical_flip_probability: of mirroring left to right, and top to bottom.
        zoom_probability: of a zoom by 0.95 to 1.2, the published training's only augmentation, there of 0.1.
        rotation_probability: of a rotation by up to 15 degrees either way.
        intensity_probability, noise_probability: of a gamma of 0.7 to 1.5, and of Gaussian noise with up to 5 % of the
            picture's range as standard deviation.
        paraphrase_probability: of other words for a text in a known language (`ReportLanguage.paraphrase`), once it
            has followed the moves; 128 paraphrases of a text at most.
        patient_sides: whether "left" in the sentences is the patient's left.
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
        """The varied example; `language` is that of its data set, if it names one."""
        if example.get("mask") is not None:
            raise ValueError("Masks are decoded before they are augmented: give `decode_example(example, num_labels)`.")
        draws = np.random.RandomState([self.seed, self.epoch, crc32(str(example.get("id")).encode())])
        varied = with_drawn_text(example, self.seed, self.epoch)
        for axis, probability in self.flips.items():
            is_drawn = draws.random_sample() < probability  # of every text, as what is drawn later depends on it
            if is_drawn and not may_hold_unknown_side(varied.get("text"), axis):
                varied = self._flipped(varied, axis, language)
        varied = self._moved(varied, int(draws.randint(2**31)), language)
        varied = {**varied, "image": self._exposed(varied["image"], seed=int(draws.randint(2**31)))}
        if draws.random_sample() < self.paraphrase_probability and varied.get("text"):
            text, number = varied["text"], int(draws.randint(PARAPHRASES))
            of_text = np.random.default_rng([self.seed, crc32(text.encode()), number])
            varied["text"] = language_of(text, language).paraphrase(text, of_text)
        return varied

    def unknown_sides_warning(self, texts: Iterable[str | None]) -> str | None:
        """How many of these texts, one an example, keep their image from a flip that is drawn at all; or None."""
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
        """Zoomed and rotated."""
        parts = _parts(example)
        self._moves.set_random_state(seed=seed)
        pixels = {part: _channels_first(example[part]) for part in ("image", "labels") if part in parts}
        moved = self._moves({"labels": pixels["image"][:1], **pixels})
        result = {**example, **{part: _as_before(moved[part], example[part]) for part in parts}}
        if "labels" not in parts or np.array_equal(result["labels"], example["labels"]):
            return result
        before, after = (is_lesion(part["labels"]) for part in (example, result))
        if before.any() and not after.any():
            return example
        if text := example.get("text"):
            spoken = language_of(text, language)
            if not spoken.can_follow(text, before, after):
                return example
            result["text"] = spoken.follow(text, before, after, self.patient_sides)
        return result

    def _exposed(self, image: np.ndarray, seed: int) -> np.ndarray:
        """With another contrast and noise, within the range that the picture had."""
        self._exposures.set_random_state(seed=seed)
        low, high = float(image.min()), float(image.max())
        unit = (_channels_first(image) - low) / ((high - low) or 1.0)
        exposed = self._exposures(unit)
        is_same = torch.equal(torch.as_tensor(exposed), unit)
        return image if is_same else _as_before(exposed.clip(0, 1) * (high - low) + low, image)


def augmented(
    dataset: datasets.Dataset | datasets.IterableDataset,
    augmentation: TextAwareAugmentation,
    num_labels: int | None = 1,
    white_is_lesion: bool | None = None,
) -> datasets.Dataset | datasets.IterableDataset:
    """The same data set, each example decoded and varied when it is read: `labels` take the place of `mask`.

    The model's `num_labels` and the set's `white_is_lesion` tell what the values of a mask mean.
    Raises `ValueError` where the data set has no masks.
    """
    language = language_in(dataset)

    def vary_example(example: dict[str, Any]) -> dict[str, Any]:
        return augmentation(decode_example(example, num_labels, white_is_lesion), language)

    def vary(columns: dict[str, list]) -> dict[str, list]:
        examples = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
        varied = [vary_example(example) for example in examples]
        return {name: [example[name] for example in varied] for name in varied[0]}

    if isinstance(dataset, datasets.IterableDataset):
        return dataset.map(vary_example, remove_columns=["mask"])
    if "mask" not in (names := dataset.column_names):
        raise ValueError(f"The data set has the columns {names}, but no 'mask': only training is varied.")
    return undecoded(dataset).with_transform(vary)


def _parts(example: Mapping[str, Any]) -> list[str]:
    return [part for part in ("image", "labels") if example.get(part) is not None]


def _channels_first(pixels: np.ndarray) -> torch.Tensor:
    """(channels, height, width) float32."""
    return torch.from_numpy(np.moveaxis(np.atleast_3d(pixels), -1, 0).astype(np.float32))


def _as_before(pixels: torch.Tensor, before: np.ndarray) -> np.ndarray:
    """In the shape and type of the pixels before."""
    array = np.moveaxis(np.asarray(pixels), 0, -1).reshape(before.shape)
    if np.issubdtype(before.dtype, np.floating):
        return array.astype(before.dtype)
    return np.round(array).astype(before.dtype)
