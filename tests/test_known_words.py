"""What a training tells its processor of its texts, and whom it warns."""

import warnings

import numpy as np
import pytest
from PIL import Image
from tiny import tiny_processor, tiny_reader

from tevia_hf.data.augment import TextAwareAugmentation
from tevia_hf.data.features import dataset_from_rows
from tevia_hf.data.origin import with_language
from tevia_hf.prompts import Phrasing, ReportLanguage
from tevia_hf.training.arguments import TeViATrainingArguments
from tevia_hf.training.trainer import record_known_words, text_feature_cache

LUNGS = "Unilateral pulmonary infection, one infected area, lower left lung."


def dataset_of(*texts: str):
    pixels = Image.fromarray(np.zeros((8, 8), np.uint8))
    return dataset_from_rows([{"id": text, "text": text, "image": pixels, "mask": pixels} for text in texts])


def test_a_probability_of_paraphrases_without_a_text_to_paraphrase_is_warned_of():
    augmentation = TextAwareAugmentation(paraphrase_probability=0.5)
    with pytest.warns(UserWarning, match="`paraphrase_probability` has no effect"):
        record_known_words(tiny_processor(), dataset_of("hello world"), augmentation)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        record_known_words(tiny_processor(), dataset_of("hello world", LUNGS), augmentation)
        record_known_words(tiny_processor(), dataset_of("hello world"), TextAwareAugmentation())


def test_the_words_of_a_language_of_ones_own_are_known():
    language, processor = ReportLanguage("{Size} lesion.", training=Phrasing(["Focus: {size}"])), tiny_processor()
    dataset = with_language(dataset_of("Small lesion."), language)
    record_known_words(processor, dataset, TextAwareAugmentation(paraphrase_probability=0.5))
    assert {"focus", "lesion", "sizeable"} <= set(processor.known_words)


def test_texts_of_the_training_are_not_warned_of_when_they_are_encoded(tmp_path):
    processor, args = tiny_processor(), TeViATrainingArguments(output_dir=str(tmp_path))
    processor.record_words(["lung"])
    cache = text_feature_cache(tiny_reader(), processor, args, has_new_texts=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cache.fill(["hello world"])
        cache(["another thing"])
    with pytest.warns(UserWarning, match="Most words of a text"):
        processor(text=["hello world"])
