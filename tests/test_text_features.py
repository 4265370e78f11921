"""Sentences are encoded once each, and what is kept of them equals encoding them again."""

from types import SimpleNamespace

import pytest
import torch
from tiny import tiny_config, tiny_processor

from tevia_hf import TeViAForSegmentation, build_trainer, evaluate_model
from tevia_hf.data.augment import TextAwareAugmentation
from tevia_hf.data.synthetic import synthetic_dataset
from tevia_hf.inference.predict import predict_masks
from tevia_hf.inference.text_features import TextFeatureCache
from tevia_hf.prompts import flip_text
from tevia_hf.training.arguments import TeViATrainingArguments
from tevia_hf.training.trainer import text_feature_cache

SHORT = "left lung"
LONG = "Bilateral pulmonary infection, two infected areas, upper left lung and lower right lung."


def mixing_config():
    return tiny_config(text_projection="token_mixing", text_token_lengths=[24, 12, 9])


@pytest.fixture(params=["per_token", "token_mixing"])
def model(request):
    torch.manual_seed(0)
    return TeViAForSegmentation(tiny_config() if request.param == "per_token" else mixing_config()).eval()


@pytest.fixture
def encoded_rows(tiny_model):
    """The number of sentences in each call of `tiny_model`'s text encoder."""
    rows = []
    tiny_model.model.text_encoder.register_forward_hook(lambda module, inputs, output: rows.append(len(output)))
    return rows


@pytest.fixture(scope="module")
def examples():
    return synthetic_dataset(size=32, count=6)


def test_training_with_flips_and_evaluation_encodes_each_distinct_sentence_once(
    tiny_model, encoded_rows, examples, tmp_path
):
    args = TeViATrainingArguments(
        output_dir=str(tmp_path),
        num_train_epochs=2,
        per_device_train_batch_size=3,
        save_strategy="no",
        load_best_model_at_end=False,
        logging_strategy="no",
        use_cpu=True,
        disable_tqdm=True,
    )
    held_out = synthetic_dataset("val", size=32, count=3)
    augmentation = TextAwareAugmentation(flip_probability=0.5)
    trainer = build_trainer(tiny_model, tiny_processor(), args, examples, held_out, augmentation)
    trainer.train()
    trainer.evaluate()
    own = {*examples["text"], *held_out["text"]}
    assert sum(encoded_rows) == len(own | {flip_text(text) for text in own})


def test_prediction_encodes_each_distinct_sentence_once(tiny_model, encoded_rows, examples):
    repeated = [{**example, "text": (SHORT, LONG, "")[index % 3]} for index, example in enumerate(examples)]
    predict_masks(tiny_model, tiny_processor(), repeated, batch_size=2)
    assert sum(encoded_rows) == 2


def test_evaluation_with_three_kinds_of_text_encodes_each_distinct_sentence_once(tiny_model, encoded_rows, examples):
    evaluate_model(tiny_model, tiny_processor(), examples, text_modes=["none"], batch_size=2)
    assert sum(encoded_rows) == len(set(examples["text"]))


def test_a_sentence_asked_for_again_is_not_encoded_again(tiny_model, encoded_rows):
    cache = TextFeatureCache(tiny_model, tiny_processor())
    cache.fill([SHORT, LONG, SHORT])
    first, _ = cache([LONG])
    second, _ = cache([LONG])
    assert sum(encoded_rows) == 2 and torch.equal(first, second)


def test_many_sentences_are_encoded_in_batches(tiny_model, encoded_rows):
    TextFeatureCache(tiny_model, tiny_processor(), batch_size=2).fill(["one", "two", "three", "four", "left"])
    assert encoded_rows == [2, 2, 1]


def test_of_texts_that_were_not_filled_in_those_asked_for_last_are_kept(tiny_model, encoded_rows):
    cache = TextFeatureCache(tiny_model, tiny_processor(), most_recent=2)
    cache.fill([SHORT, LONG, "left"])
    for texts in (["one", "two"], ["one", SHORT], ["three"], ["one", LONG]):
        cache(texts)
    assert list(cache.recent) == ["three", "one"] and encoded_rows == [3, 2, 1]
    features, _ = cache(["two", "one", "upper"])  # more than are kept
    assert encoded_rows == [3, 2, 1, 2] and features.any(2).any(1).all() and len(cache.recent) == 2


def test_paraphrases_met_in_training_are_encoded_in_the_batches_of_the_training(
    tiny_model, encoded_rows, examples, tmp_path
):
    args = TeViATrainingArguments(
        output_dir=str(tmp_path),
        num_train_epochs=2,
        per_device_train_batch_size=3,
        **{"eval_strategy": "no", "save_strategy": "no", "load_best_model_at_end": False, "logging_strategy": "no"},
        **{"use_cpu": True, "disable_tqdm": True},
    )
    augmentation = TextAwareAugmentation(paraphrase_probability=1.0)
    build_trainer(tiny_model, tiny_processor(), args, examples, None, augmentation).train()
    own = set(examples["text"])
    known = len(own | {flip_text(text) for text in own})
    assert encoded_rows[0] == known and 2 <= len(encoded_rows[1:]) <= 4 and max(encoded_rows[1:]) <= 3


@pytest.mark.parametrize("nothing", ["", "  "])
def test_no_sentence_is_a_row_without_attention(model, nothing):
    features, attention_mask = TextFeatureCache(model, tiny_processor())([SHORT, nothing])
    assert attention_mask[0].any() and not attention_mask[1].any() and not features[1].any()
    features, attention_mask = TextFeatureCache(model, tiny_processor())([nothing])
    assert not features.any() and not attention_mask.any()


def test_features_are_as_long_as_the_longest_sentence_and_equal_direct_encoding(tiny_model):
    tiny_model.eval()
    processor = tiny_processor()
    cache = TextFeatureCache(tiny_model, processor)
    cache.fill([SHORT, LONG])  # together, so that the short one is encoded with padding
    for sentence in (SHORT, LONG):
        tokens = processor(text=[sentence])
        features, attention_mask = cache([sentence])
        assert torch.equal(attention_mask, tokens["attention_mask"])
        torch.testing.assert_close(features, tiny_model.encode_text(**tokens), rtol=0, atol=1e-5)
    tokens = processor(text=[SHORT, LONG])
    features, attention_mask = cache([SHORT, LONG])
    assert torch.equal(attention_mask, tokens["attention_mask"])
    length = len(processor.tokenizer(SHORT)["input_ids"])
    assert length < features.shape[1] and not features[0, length:].any()


def test_token_mixing_keeps_the_features_of_padding():
    model, processor = TeViAForSegmentation(mixing_config()).eval(), tiny_processor()
    features, attention_mask = TextFeatureCache(model, processor)([SHORT])
    assert features.shape == (1, 24, 8) and attention_mask.all()
    torch.testing.assert_close(features, model.encode_text(**processor(text=[SHORT])), rtol=0, atol=1e-5)
    assert features[0, -1].any()


@pytest.mark.parametrize("sentences", [[SHORT, LONG, ""], ["", "", ""]], ids=["mixed", "none"])
def test_cached_features_give_the_logits_of_token_ids(model, sentences):
    torch.nn.init.ones_(model.model.decoder[0].cross_attention.scale)  # so that the text counts
    processor = tiny_processor()
    tokens = processor(text=sentences)
    features, attention_mask = TextFeatureCache(model, processor)(sentences)
    pixel_values = torch.randn(1, 3, 32, 32).expand(3, -1, -1, -1)
    with torch.no_grad():
        direct = model(pixel_values, **tokens).logits
        cached = model(pixel_values, text_features=features, attention_mask=attention_mask).logits
    torch.testing.assert_close(cached, direct, rtol=0, atol=1e-5)
    assert (direct[0] - direct[2]).abs().max() > 1e-4 or not any(sentences)


@pytest.mark.parametrize(
    ("device", "workers", "varied", "is_cached"),
    [
        ("cpu", 2, True, True),
        ("cuda", 0, True, True),
        ("cuda", 2, False, True),
        ("cuda", 2, True, False),
    ],
)
def test_no_data_worker_is_made_to_run_the_encoder_on_a_gpu(device, workers, varied, is_cached, tiny_model):
    args = SimpleNamespace(device=torch.device(device), dataloader_num_workers=workers)
    augmentation = TextAwareAugmentation() if varied else None
    cache = text_feature_cache(tiny_model, tiny_processor(), args, augmentation is not None)
    assert (cache is not None) == is_cached
