"""Evaluation of masks, and of how much they depend on the text."""

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any, get_args

import numpy as np
from datasets import Dataset

from ..data.features import undecoded
from ..data.origin import language_in
from ..data.ready import ready_dataset
from ..data.registry import load_segmentation_dataset, rows_of_all_splits
from ..data.splits import held_out as held_out_of
from ..data.splits import sample
from ..data.survey import OnError, Survey
from ..extras import needed_for
from ..inference.backends import AnyModel, AnyProcessor, check_dtype, load_predicting, precision_of
from ..inference.manifest import Manifest
from ..inference.predictor import Predictor
from ..inference.tiles import Tiling
from ..io.output_dir import check_output_dir, claim_output_dir
from ..labels_tevia import class_names
from ..metric_table import METRICS
from ..metrics import common_spacing
from ..option_checks_tevia import check_choice, check_count, check_seed, check_share
from .measuring import Examination, measure
from .provenance import provenance
from .report import EvaluationReport
from .results import report_of
from .text_conditions import changed_texts, check_texts, chosen_texts, conditions_for, default_conditions

with needed_for("Evaluation"):  # used at the end only, but a missing library should be reported at the start
    import matplotlib as matplotlib
    import monai as monai

SHOWN_EXAMPLES = 4


def evaluate_model(
    model: AnyModel,
    processor: AnyProcessor,
    dataset: Dataset,
    text_modes: Sequence[str] | None = None,
    threshold: float = 0.5,
    batch_size: int = 16,
    seed: int = 0,
    white_is_lesion: bool | None = None,
    on_error: OnError = "raise",
    other_examples: Iterable[Mapping[str, Any]] = (),
    cache: bool = True,
    tiling: Tiling | None = None,
) -> EvaluationReport:
    """A report that compares predicted with true masks, at the size of the images, for each text condition.

    `tevia bundle` accepts the saved report, which identifies the weights, preprocessing and examples.

    Args:
        model: a `TeViAForSegmentation`, or an `ExportedModel`; the report of a vision-only model has one row, "no text
            branch".
        processor: its `TeViAProcessor`.
        dataset: from `load_segmentation_dataset`, or a part of that, or your own as for `train_from_recipe`, which the
            report calls "unknown": with `image`, `mask` and `text`, and optionally `id` (default: the example's number,
            counted from 0), `group` (default: its `id`) and `spacing_mm`.
        text_modes: names of `TEXT_CONDITIONS`: "none", "flipped" (sides changed), "contradictory" (presence denied, or
            claimed), "paraphrased" (in other words), "underspecified" (location or count left out), "overspecified"
            (with irrelevant findings), "absent" (nothing is there), or registered ones; "correct" and "shuffled"
            (another image's text) are always included. Default: "none", and "paraphrased" if it changes any text.
        threshold: on the lesion's probability, for models with one label.
        batch_size: number of images, or tiles of an image, per forward pass.
        seed: seed of the shuffling, the bootstrap and the choice of examples in the figure.
        white_is_lesion: the meaning of 255 in the masks; by default inferred from all of them.
        on_error: "skip" leaves out images and masks that cannot be read, and lists them in the report; "raise" raises
            an error that names them.
        other_examples: of the same data set, for the meaning of 255 if the masks of `dataset` do not define it.
        cache: skip files that were checked before and have not changed.
        tiling: how images are divided into tiles, e.g. `Tiling(512)`; by default each is resized and predicted at once.

    Raises `ValueError` for unknown conditions, for a condition that should reword the texts but changes none, and if no
    example has a text although the model has a text encoder.
    """
    return evaluate_recorded(
        model,
        processor,
        dataset,
        text_modes,
        threshold,
        batch_size,
        seed,
        white_is_lesion,
        on_error,
        other_examples,
        cache,
        tiling,
    )


def evaluate_recorded(
    model: AnyModel,
    processor: AnyProcessor,
    dataset: Dataset,
    text_modes: Sequence[str] | None,
    threshold: float,
    batch_size: int,
    seed: int,
    white_is_lesion: bool | None,
    on_error: OnError,
    other_examples: Iterable[Mapping[str, Any]],
    cache: bool,
    tiling: Tiling | None,
    open_manifest: Callable[[dict[str, Any]], Manifest] | None = None,
) -> EvaluationReport:
    """`evaluate_model`, which records each image in a manifest, and takes the images from there that are in it.

    Args:
        open_manifest: opens it for the settings on which measurements depend, once all inputs have been checked.
    """
    check_options(threshold, batch_size, seed, on_error=on_error)
    dataset = ready_dataset(dataset, model.config.use_text)
    check_texts(dataset, model.config.use_text)
    settings = provenance(model, processor, dataset)
    survey = Survey(processor.image_processor, white_is_lesion, cache)
    dataset = dataset.select(survey.read_all(undecoded(dataset), on_error))
    survey.consult(other_examples)
    white = survey.white_is_lesion()
    if warning := survey.white.warning():
        warnings.warn(warning, UserWarning, stacklevel=3)
    own, language = list(dataset["text"]), language_in(dataset)
    modes = default_conditions(own, seed, language) if text_modes is None else text_modes
    conditions = conditions_for(modes, model.config.use_text)
    examination = Examination(
        dataset,
        conditions,
        chosen_texts(conditions, own, seed, language),
        common_spacing(survey.spacings, len(dataset)),
        language,
        class_names(model.config.id2label),
        processor.image_processor.num_labels,
        white,
        examples_to_show(survey.lesion_shares(), seed),
    )
    predictor = Predictor(model, processor, threshold, batch_size, tiling=tiling, fuse=True)
    measured_with = {"weights": settings["weights"], "image_processor": settings["image_processor"]}
    options = {"threshold": threshold, "tiling": asdict(tiling) if tiling else None, "dtype": precision_of(model)}
    measured_with |= options | {"examples and texts": examination.digest(), "metrics": list(METRICS)}
    with open_manifest(measured_with) if open_manifest else nullcontext() as manifest:
        measurements = measure(examination, predictor, manifest)
    unit = "px" if examination.spacings[0] is None else "mm"
    details: dict[str, Any] = {"images": len(dataset), **options, "seed": seed, "hd95_unit": unit}
    details |= {"white_is_lesion": white, "skipped": survey.skipped()}
    details["classes"] = {name: label for label, name in examination.classes.items()}
    details["texts_changed"] = changed_texts(conditions, own, examination.texts)
    return report_of(
        measurements.by_condition(),
        dataset,
        measurements.references(),
        details | settings,
        measurements.worst,
        measurements.of_volumes,
    )


def check_options(
    threshold: float, batch_size: int, seed: int, max_samples: int | None = None, on_error: str = "raise"
) -> None:
    """Raises `ValueError` for the first option of an evaluation that is out of range."""
    check_choice("on_error", on_error, get_args(OnError))
    check_share("threshold", threshold)
    check_count("batch_size", batch_size)
    check_seed("seed", seed)
    if max_samples is not None:
        check_count("max_samples", max_samples, example="100")


def examples_to_show(lesion_shares: Sequence[float], seed: int) -> list[int]:
    """Indices of random examples for the figure, those with a lesion first."""
    order = np.random.default_rng(seed).permutation(len(lesion_shares)).tolist()
    return sorted(order, key=lambda index: not lesion_shares[index])[:SHOWN_EXAMPLES]


def evaluate_dataset(
    model: str | Path,
    dataset: str = "synthetic",
    data_dir: str | Path | None = None,
    split: str = "test",
    output_dir: str | Path | None = None,
    *,
    text_modes: Sequence[str] | None = None,
    threshold: float = 0.5,
    batch_size: int = 16,
    seed: int = 0,
    max_samples: int | None = None,
    held_out: bool = False,
    white_is_lesion: bool | None = None,
    on_error: OnError = "raise",
    cache: bool = True,
    tile: int | None = None,
    overlap: float | None = None,
    device: str | None = None,
    dtype: str = "float32",
    resume: bool = False,
    overwrite: bool = False,
    **source_options: Any,
) -> EvaluationReport:
    """The report of `tevia evaluate`, for a model and a data set by name or folder.

    Args:
        model: name or folder of a TeViA model.
        dataset: name of a data set, as for `load_segmentation_dataset`.
        data_dir: its folder; not for "synthetic".
        split: "train", "val" or "test".
        output_dir: folder to save the report to.
        max_samples: maximum number of images, sampled by the seed.
        held_out: leave out all images of groups (patients) in the training or validation data of the model, as listed
            in its folder, so that the rest influenced neither weights nor model selection.
        text_modes: text conditions; see `evaluate_model`, also for their default.
        threshold: on the lesion's probability, for models with one label.
        batch_size: number of images, or tiles of an image, per forward pass.
        seed: seed of the sampled images, the shuffled texts and the bootstrap.
        white_is_lesion: the meaning of 255 in the masks; by default inferred from all masks of the data set, including
            those that are not evaluated.
        on_error: "skip" leaves out images and masks that cannot be read, and lists them in the report; "raise" raises
            an error that names them.
        cache: skip files that were checked before and have not changed.
        tile: side of the tiles in which images are predicted, in pixels: see `Tiling`; by default images are resized.
        overlap: of tiles, as a share of their side; by default 0.25.
        device: to compute on, e.g. "cuda:1"; by default the GPU, if there is one.
        dtype: "float32" or "bfloat16", which the report records.
        resume: continue an interrupted evaluation in `output_dir`, or begin it.
        overwrite: delete an earlier output in `output_dir`.
        source_options: other arguments of `load_segmentation_dataset`.

    Raises `ValueError` for models, data and options that cannot be used, without changing the output folder.
    """
    check_options(threshold, batch_size, seed, max_samples, on_error)  # before anything is loaded
    conditions_for(text_modes or (), uses_text=True)
    check_dtype(dtype)
    tiling = Tiling.of(tile, overlap)
    network, processor = load_predicting(str(model), device, dtype)
    examples = load_segmentation_dataset(dataset, data_dir, split, on_error, **source_options)
    others = rows_of_all_splits(dataset, data_dir, **source_options)
    examples = sample(held_out_of(examples, model) if held_out else examples, max_samples, seed)
    check_texts(examples, network.config.use_text)
    inputs = [model, data_dir, source_options.get("text_table")]
    if output_dir is not None:
        check_output_dir(output_dir, resume=resume, overwrite=overwrite, inputs=inputs)

    def open_manifest(settings: dict[str, Any]) -> Manifest:
        claim_output_dir(str(output_dir), resume=resume, overwrite=overwrite, inputs=inputs)
        return Manifest(Path(str(output_dir), "manifest.jsonl"), settings)

    options = text_modes, threshold, batch_size, seed, white_is_lesion, on_error, others, cache, tiling
    report = evaluate_recorded(network, processor, examples, *options, open_manifest if output_dir else None)
    if output_dir is not None:
        report.save(output_dir)
    return report
