"""Image processor of TeViA: images and masks to `pixel_values` and `labels`, model outputs to masks."""

import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar, Literal, TypedDict

import numpy as np
import torch
import torch.nn.functional as F
from huggingface_hub.dataclasses import validate_typed_dict
from PIL import Image
from transformers.image_processing_backends import PilBackend
from transformers.image_processing_utils import BatchFeature
from transformers.image_utils import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD, PILImageResampling

from .decoding_tevia import channels_first, one_page, read_plain_file, unit_pixels
from .labels_tevia import IGNORE_INDEX, WhiteReading, single_channel, to_labels, values_of
from .logits_tevia import labels_from_probabilities, probabilities_from_logits
from .option_checks_tevia import check_share

TORCH_MODES: dict[int, str] = {
    PILImageResampling.NEAREST: "nearest",
    PILImageResampling.BILINEAR: "bilinear",
    PILImageResampling.BICUBIC: "bicubic",
}
SERVICE_SETTINGS = ("image_processor_type", "processor_class", "auto_map")
FLAT_STD = 1e-5  # so that a constant channel becomes 0 and not amplified rounding noise


class TeViAImageProcessorKwargs(TypedDict, total=False):
    """Settings of `TeViAImageProcessor`; see there."""

    do_resize: bool
    size: int | list[int] | tuple[int, ...] | dict[str, int]
    resample: int
    do_antialias: bool
    do_normalize: bool
    normalization: Literal["zscore", "fixed"]
    image_mean: float | list[float] | tuple[float, ...]
    image_std: float | list[float] | tuple[float, ...]
    num_labels: int
    white_is_lesion: bool | None
    swap_axes: bool
    input_data_format: Literal["channels_first", "channels_last"] | None
    return_tensors: str | None


class TeViAImageProcessor(PilBackend):
    """`pixel_values` (batch, 3, height, width) float32 and `labels` (batch, height, width) int64 for TeViA.

    Args:
        do_resize: False keeps the size of the images; all images of one call must then have the same size.
        size: `{"height": ..., "width": ...}` of `pixel_values`, in pixels; also [height, width] or the side of a
            square.
        resample: NEAREST, BILINEAR or BICUBIC, computed on floats and not clipped. Masks are resized by nearest
            neighbour.
        do_antialias: smooth before downsampling. The published model does not; `False` also resizes masks as published,
            by torch's `nearest`, which takes the upper left pixel and so shifts a mask by up to half a pixel.
        do_normalize: False keeps the pixels in [0, 1].
        normalization: `"zscore"` gives each channel of each image mean 0 and (biased) standard deviation 1, as
            published; `"fixed"` gives (x - `image_mean`) / `image_std` with x in [0, 1].
        image_mean: one number, or one for each of three channels, for `"fixed"`. Default: ImageNet's.
        image_std: as `image_mean`.
        num_labels: 1 = lesion or not; more = that many labels, 0 the background. 255 is ignored in both cases.
        white_is_lesion: with one label, the meaning of 255 in the masks. True: lesion. False: ignored, as in a label
            map. None infers it from all masks of a call: lesion, unless one of them holds other labels besides 255.
        swap_axes: swap rows and columns of images and masks, as the published code does; post-processing swaps them
            back. `size` is the size after swapping.
        input_data_format: `"channels_first"` or `"channels_last"`, of arrays and tensors; inferred from the shape by
            default. PIL images and files always have their channels last.

    Raises `TypeError` for an unknown setting, and `ValueError` or `StrictDataclassFieldValidationError` for an invalid
    value.
    """

    valid_kwargs = TeViAImageProcessorKwargs  # type: ignore[assignment]  # other than its parent's
    do_resize = True
    size = {"height": 224, "width": 224}
    resample = PILImageResampling.BICUBIC
    do_antialias = True
    do_normalize = True
    normalization = "zscore"
    image_mean = IMAGENET_DEFAULT_MEAN
    image_std = IMAGENET_DEFAULT_STD
    num_labels = 1
    white_is_lesion = None
    swap_axes = False
    input_data_format = None
    return_tensors = "pt"
    # With the package installed, `tevia_hf.auto` sets a reader that supports medical files as well.
    file_reader: ClassVar[Callable[..., np.ndarray]] = staticmethod(read_plain_file)

    def __init__(self, **kwargs: Any):
        settings = {name: value for name, value in kwargs.items() if name not in SERVICE_SETTINGS and value is not None}
        check_names(settings, self.valid_kwargs.__annotations__, "The image processor")
        validate_typed_dict(self.valid_kwargs, settings)  # type: ignore[type-var]  # any typed dictionary
        super().__init__(**kwargs)

    def preprocess(self, images: Any, segmentation_maps: Any = None, **kwargs: Any) -> BatchFeature:
        """`pixel_values` (batch, 3, height, width) float32 and, with maps, `labels` (batch, height, width) int64.

        Args:
            images: a PIL image, array, tensor or path, a list of these, or a 4-D array or tensor. 1, 3 or 4 channels,
                first or last: grey is repeated to 3, alpha dropped. 8 bit is divided by 255, floats in [0, 1] are
                unchanged, any other image is scaled by its own minimum and maximum.
            segmentation_maps: one mask per image, of the image's size; 2-D, or with equal channels. For the meaning of
                255 see `white_is_lesion`; with several labels it is ignored.
            kwargs: settings of the class, for this call only.

        Raises `TypeError` for an unknown setting; `ValueError`, with the image or mask concerned, for an unreadable
        file, several pages, an ambiguous shape, NaN pixels, sizes that differ and invalid values.
        """
        check_names(kwargs, self.valid_kwargs.__annotations__, "The image processor")
        return super().preprocess(images, segmentation_maps, **kwargs)

    def post_process_segmentation(
        self,
        outputs: Any,
        target_sizes: Sequence[tuple[int, int]] | torch.Tensor | None = None,
        threshold: float = 0.5,
        return_probabilities: bool = False,
    ) -> list[torch.Tensor]:
        """One uint8 mask (height, width) per image; with `return_probabilities`, float32 (num_labels, height, width).

        Args:
            outputs: output of the model; `outputs.logits` is (batch, num_labels, H, W).
            target_sizes: (height, width) of each original image, in pixels; None keeps the size of the logits.
                Probabilities are resized bilinearly before threshold (one label) or argmax (several).

        Raises `ValueError` if the threshold is not a number from 0 to 1, if logits are not finite (with the indices of
        the images), and if the number of target sizes is not that of the batch.
        """
        check_share("threshold", threshold)
        probabilities = probabilities_from_logits(outputs.logits)
        if self.swap_axes:
            probabilities = probabilities.transpose(-1, -2)
        maps = _resize_each(probabilities, target_sizes)
        if return_probabilities:
            return maps
        return [labels_from_probabilities(probabilities, threshold) for probabilities in maps]

    def read_image(self, image: Any, index: int = 0, input_data_format: str | None = None) -> torch.Tensor:
        """One image as float32 (1 or 3, height, width) in [0, 1], before resizing; errors contain its `index`."""
        name = _name("image", image, index)
        pixels = self._channels_first(image, name, input_data_format or self.input_data_format)
        return torch.from_numpy(unit_pixels(pixels, name))

    def _channels_first(self, item: Any, name: str, layout: str | None, is_mask: bool = False) -> np.ndarray:
        """The pixels as (channels, height, width); `layout` of an array, None to infer it from the shape."""
        if isinstance(item, (str, os.PathLike)):
            return channels_first(type(self).file_reader(item, is_mask), name, "channels_last", is_mask)
        if isinstance(item, Image.Image):
            return channels_first(one_page(item, name, is_mask), name, "channels_last", is_mask)
        return channels_first(_number_array(item, name), name, layout, is_mask)

    def _read_map(
        self,
        mask: Any,
        index: int,
        image_size: torch.Size,
        input_data_format: str | None,
    ) -> np.ndarray:
        """One mask (height, width) of values as stored, before resizing."""
        name = _name("mask", mask, index)
        values = single_channel(self._channels_first(mask, name, input_data_format, is_mask=True), name)
        if values.shape != image_size:
            is_transposed = values.shape == image_size[::-1]
            raise ValueError(
                f"{name} is {values.shape[0]} x {values.shape[1]} (height x width) but its image is {image_size[0]} x "
                f"{image_size[1]}: "
                + (
                    "if EXIF turns one of the two alone, turn the other too (`ImageOps.exif_transpose`); else "
                    if is_transposed
                    else ""
                )
                + "resize the mask to its image (nearest neighbour), or pair it with the right image."
            )
        return values

    def _label_maps(
        self, masks: list[np.ndarray], items: list[Any], num_labels: int, white_is_lesion: bool | None
    ) -> list[torch.Tensor]:
        """Label maps of masks as stored; without a setting, the meaning of 255 is inferred from all of them."""
        names = [_name("mask", item, index) for index, item in enumerate(items)]
        reading = WhiteReading(num_labels, white_is_lesion)
        if white_is_lesion is None:
            for name, mask in zip(names, masks, strict=True):
                reading.add(name, values_of(mask))
        decision = reading.white_is_lesion()
        pairs = zip(masks, names, strict=True)
        return [torch.from_numpy(to_labels(mask, num_labels, name, decision)) for mask, name in pairs]

    def _preprocess_image_like_inputs(  # type: ignore[override]  # its options are named
        self,
        images: Any,
        segmentation_maps: Any,
        num_labels: int,
        white_is_lesion: bool | None,
        swap_axes: bool,
        input_data_format: str | None,
        return_tensors: str | None,
        **kwargs: Any,
    ) -> BatchFeature:
        pixels = [self.read_image(image, i, input_data_format) for i, image in enumerate(_as_list(images, axes=4))]
        if not pixels:
            raise ValueError("No images were given: give at least one.")
        sizes = [image.shape[-2:] for image in pixels]
        labels: list[torch.Tensor] = []
        if segmentation_maps is not None:
            is_batch = len(pixels) > 1 or getattr(images, "ndim", 0) == 4
            maps = _as_list(segmentation_maps, axes=3 if is_batch else 4)
            if len(maps) != len(pixels):
                raise ValueError(f"{len(pixels)} images but {len(maps)} segmentation maps: give one map per image.")
            masks = [self._read_map(m, i, sizes[i], input_data_format) for i, m in enumerate(maps)]
            labels = self._label_maps(masks, maps, num_labels, white_is_lesion)
        if swap_axes:
            pixels, labels = ([t.transpose(-1, -2) for t in tensors] for tensors in (pixels, labels))
        return BatchFeature(self._to_batch(pixels, labels, **kwargs), tensor_type=return_tensors)

    def _to_batch(
        self,
        pixel_values: list[torch.Tensor],
        labels: list[torch.Tensor],
        do_resize: bool,
        size: Any,
        resample: int,
        do_antialias: bool,
        do_normalize: bool,
        normalization: str,
        image_mean: Any,
        image_std: Any,
        **kwargs: Any,
    ) -> dict[str, torch.Tensor]:
        if do_resize:
            target, mode = (size["height"], size["width"]), TORCH_MODES[resample]
            antialias = do_antialias and mode != "nearest"
            pixel_values = [_interpolate(image, target, mode, antialias) for image in pixel_values]
            labels = [
                _interpolate(mask[None], target, "nearest-exact" if do_antialias else "nearest")[0] for mask in labels
            ]
        elif len(shapes := {tuple(image.shape[-2:]) for image in pixel_values}) > 1:
            raise ValueError(
                f"Images of sizes {sorted(shapes)} make no batch: set do_resize=True or pass them one by one."
            )
        if do_normalize and normalization == "zscore":
            pixel_values = [_zscore(image) for image in pixel_values]
        batch = torch.stack([image.expand(3, -1, -1) for image in pixel_values])
        if do_normalize and normalization == "fixed":
            batch = (batch - _per_channel(image_mean)) / _per_channel(image_std)
        return {"pixel_values": batch} | ({"labels": torch.stack(labels).long()} if labels else {})

    def _standardize_kwargs(self, size: Any = None, **kwargs: Any) -> dict[str, Any]:  # type: ignore[override]  # any options
        settings = super()._standardize_kwargs(size=_height_and_width(size), **kwargs)
        if settings["resample"] not in TORCH_MODES:
            choices = ", ".join(f"{int(mode)} ({torch_name})" for mode, torch_name in TORCH_MODES.items())
            raise ValueError(f"resample must be one of {choices}; got {settings['resample']}.")
        if not 1 <= settings["num_labels"] <= IGNORE_INDEX:
            raise ValueError(f"num_labels must be 1 to {IGNORE_INDEX}, got {settings['num_labels']}.")
        return settings


def check_names(given: Iterable[str], known: Iterable[str], owner: str) -> None:
    """Raises `TypeError` for unknown option names of `owner`, with the known ones."""
    if unknown := sorted(set(given) - set(known)):
        raise TypeError(f"{owner} takes no {', '.join(unknown)}: give any of {', '.join(known)}.")


def _height_and_width(size: Any) -> dict[str, int]:
    """`size` in the form that is saved; an int is the side of a square."""
    sides = size if isinstance(size, (list, tuple, int)) else dict(size)
    if isinstance(sides, int):
        sides = [sides, sides]
    if isinstance(sides, (list, tuple)) and len(sides) == 2:
        sides = {"height": sides[0], "width": sides[1]}
    if not isinstance(sides, dict) or set(sides) != {"height", "width"} or min(sides.values()) < 1:
        raise ValueError(
            'size must be {"height": ..., "width": ...}, [height, width] or the side of a square, in pixels; '
            f"got {sides}."
        )
    return sides


def _name(kind: str, item: Any, index: int) -> str:
    path = item if isinstance(item, (str, os.PathLike)) else getattr(item, "filename", "")
    return f"{kind} {index} ({path})" if path else f"{kind} {index}"


def _as_list(items: Any, axes: int) -> list[Any]:
    """The items as a list; an array or tensor of `axes` or more axes is a batch."""
    if isinstance(items, (list, tuple)) or getattr(items, "ndim", 0) >= axes:
        return list(items)
    return [items]


def _number_array(item: Any, name: str) -> np.ndarray:
    if isinstance(item, torch.Tensor):
        item = item.detach().cpu()
        return (item.float() if item.dtype == torch.bfloat16 else item).numpy()
    if isinstance(item, np.ndarray):
        return item
    raise TypeError(f"{name} is a {type(item).__name__}: give a PIL image, numpy array, torch tensor or path.")


def _interpolate(image: torch.Tensor, size: tuple[int, int], mode: str, antialias: bool = False) -> torch.Tensor:
    """(channels, height, width) resized to `size`; bilinear and bicubic with `align_corners=False`."""
    if tuple(image.shape[-2:]) == tuple(size):
        return image
    return F.interpolate(image[None], size=size, mode=mode, antialias=antialias)[0]


def _zscore(image: torch.Tensor) -> torch.Tensor:
    std, mean = torch.std_mean(image, dim=(1, 2), correction=0, keepdim=True)
    return (image - mean) / std.clamp_min(FLAT_STD)


def _per_channel(value: float | Sequence[float]) -> torch.Tensor:
    return torch.tensor(value, dtype=torch.float32).reshape(-1, 1, 1)


def _resize_each(maps: torch.Tensor, sizes: Any) -> list[torch.Tensor]:
    if sizes is None:
        return list(maps)
    if len(sizes) != len(maps):
        raise ValueError(f"{len(maps)} predictions but {len(sizes)} target sizes: give one (height, width) for each.")
    targets = [(int(height), int(width)) for height, width in sizes]
    return [_interpolate(array, target, "bilinear") for array, target in zip(maps, targets, strict=True)]


__all__ = ["TeViAImageProcessor"]
