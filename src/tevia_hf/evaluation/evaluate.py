"""How good the masks are, and whether the model reads its text."""

import numpy as np
from datasets import Dataset

from ..data.features import reference_labels, spacing_of, undecoded
from ..inference.predict import predict_masks
from ..inference.text_features import TextFeatureCache
from ..labels import is_lesion
from ..metrics import common_spacing, score_images
from .report import READING_MODES, EvaluationReport, Measured, report_of
from .text_conditions import TEXT_MODES, check_text_modes, check_texts, no_sentences

SHOWN_EXAMPLES = 4


def evaluate_model(
    model,
    processor,
    dataset: Dataset,
    text_modes: tuple[str, ...] = ("correct", "shuffled", "none"),
    threshold: float = 0.5,
    batch_size: int = 16,
    seed: int = 0,
) -> EvaluationReport:
    """Masks at the images' own sizes against the true ones, with each kind of sentence.

    Args:
        model, processor: a `TeViAForSegmentation` and its `TeViAProcessor`; a model without text gets one row,
            "no text branch".
        dataset: as `load_segmentation_dataset` gives it.
        text_modes: of "none", "flipped" (sides changed), "contradictory" (presence denied, or claimed); "correct" and
            "shuffled" (another image's sentence) are always measured.
        threshold: on the lesion's probability, for models with one label.
        seed: of the shuffling, the bootstrap and the examples shown.
    """
    check_text_modes(text_modes)
    check_texts(dataset, model.config.use_text)
    modes = {mode: TEXT_MODES[mode] for mode in dict.fromkeys((*READING_MODES, *text_modes))}
    if not model.config.use_text:
        modes = {"no text branch": no_sentences}
    sentences = TextFeatureCache(model, processor) if model.config.use_text else None
    references = [reference_labels(example, processor) for example in undecoded(dataset)]
    spacings = common_spacing([spacing_of(example) for example in undecoded(dataset)], len(references))
    chosen = examples_to_show(references, seed)
    measured = {}
    for mode, choose in modes.items():
        texts = choose(list(dataset["text"]), seed)
        examples = [{**example, "text": text} for example, text in zip(undecoded(dataset), texts, strict=True)]
        masks = predict_masks(model, processor, examples, threshold, batch_size, f"text: {mode}", sentences)
        pixels, shown = [int(is_lesion(mask).sum()) for mask in masks], {index: masks[index] for index in chosen}
        measured[mode] = Measured(texts, score_images(masks, references, spacings), pixels, shown)
    unit = "px" if spacings[0] is None else "mm"
    settings = {"images": len(dataset), "threshold": threshold, "seed": seed, "hd95_unit": unit}
    return report_of(measured, dataset, references, settings)


def examples_to_show(references: list[np.ndarray], seed: int) -> list[int]:
    """Some images, those with a lesion first."""
    order = np.random.default_rng(seed).permutation(len(references)).tolist()
    return sorted(order, key=lambda index: not is_lesion(references[index]).any())[:SHOWN_EXAMPLES]
