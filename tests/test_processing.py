"""Images, texts and masks to model inputs."""

import json
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from huggingface_hub.errors import StrictDataclassFieldValidationError
from PIL import Image
from tiny import tiny_processor, tiny_reader
from transformers import AutoImageProcessor, AutoProcessor, AutoTokenizer, BertConfig, BertTokenizer, PreTrainedConfig

from tevia_hf.configuration_tevia import TeViAConfig
from tevia_hf.image_processing_tevia import TeViAImageProcessor
from tevia_hf.processing_tevia import TeViAProcessor

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "upper", "lower", "left", "right", "lung", "and", "infection"]
VOCABULARY = {word: index for index, word in enumerate(WORDS)}
SETTING_ERRORS = (ValueError, StrictDataclassFieldValidationError)
SHORT, LONG = "upper left lung", "upper left lung and lower right lung and infection"


class ThrowawayConfig(PreTrainedConfig):
    model_type = "tevia-processor-test"


def small_tokenizer(limit=8):
    return BertTokenizer(vocab=dict(VOCABULARY), do_lower_case=True, model_max_length=limit)


@pytest.fixture
def processor():
    image_processor = TeViAImageProcessor(size={"height": 16, "width": 16})
    return TeViAProcessor(image_processor, small_tokenizer())


@pytest.fixture
def images():
    return list(np.random.default_rng(0).integers(0, 256, (3, 20, 30), dtype=np.uint8))


@pytest.fixture
def text_encoder(tmp_path):
    folder = tmp_path / "text"
    BertConfig(vocab_size=len(WORDS)).save_pretrained(folder)
    small_tokenizer(512).save_pretrained(folder)
    return folder


def test_inputs_are_those_of_the_model(processor, images):
    masks = [image > 99 for image in images]
    inputs = processor(images, [SHORT, "lung", None], masks)
    assert set(inputs) == {"pixel_values", "input_ids", "attention_mask", "labels"}
    assert set(processor.model_input_names) == {"pixel_values", "input_ids", "attention_mask"}
    assert inputs.pixel_values.shape == (3, 3, 16, 16)
    assert inputs.labels.shape == (3, 16, 16)
    assert inputs.input_ids.shape == inputs.attention_mask.shape == (3, 5)
    assert {type(tensor) for tensor in inputs.values()} == {torch.Tensor}


def test_texts_are_padded_to_the_longest_of_the_batch(processor):
    inputs = processor(text=[SHORT, "lung"])
    assert [[WORDS[token] for token in row] for row in inputs.input_ids] == [
        ["[CLS]", "upper", "left", "lung", "[SEP]"],
        ["[CLS]", "lung", "[SEP]", "[PAD]", "[PAD]"],
    ]
    assert inputs.attention_mask.tolist() == [[1] * 5, [1, 1, 1, 0, 0]]


@pytest.mark.parametrize("nothing", [None, "", "  "])
def test_a_missing_text_is_a_row_of_zero_attention(processor, images, nothing):
    inputs = processor(images, [SHORT, nothing, "lung"])
    assert inputs.attention_mask.sum(dim=1).tolist() == [5, 0, 3]
    assert processor(images, [nothing] * 3).attention_mask.sum() == 0


def test_without_text_there_are_no_tokens(processor, images):
    assert set(processor(images)) == {"pixel_values"}


def test_one_image_takes_one_string(processor, images):
    assert processor(images[0], SHORT).input_ids.tolist() == processor(text=[SHORT]).input_ids.tolist()


def test_long_text_is_truncated_with_a_warning_that_quotes_it(processor):
    with pytest.warns(UserWarning) as caught:
        inputs = processor(text=["lung", LONG, LONG])
    assert [str(warning.message) for warning in caught] == [
        f"Text of 11 tokens truncated to the limit of 8: {LONG!r}. Shorten it, or raise tokenizer.model_max_length up "
        "to the limit of the text encoder."
    ]
    assert caught[0].filename == __file__
    assert inputs.input_ids.shape == (3, 8)
    assert [WORDS[token] for token in inputs.input_ids[1]] == ["[CLS]", *LONG.split()[:6], "[SEP]"]


def test_text_of_the_longest_length_is_not_truncated(processor):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert processor(text=" ".join(["lung"] * 6)).attention_mask.tolist() == [[1] * 8]


@pytest.fixture
def trained(processor):
    processor.record_words(["Upper left lung", "lower left lung, 2 foci"], words=["zone"])
    return processor


def test_the_words_of_training_texts_are_kept_in_lower_case_the_most_frequent_ones(trained):
    assert trained.known_words == ["foci", "left", "lower", "lung", "upper", "zone"]
    trained.record_words(["lung"] * 2 + [f"{'x' * number}" for number in range(1, 2100)])
    assert len(trained.known_words) == 6 + 1999  # "lung" is among the 2,000


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("hello world", ["hello", "world"]),
        ("Hello hello world, upper lung", ["hello", "world"]),
        ("upper lung hello world", []),
        ("a cat and dog of lung", ["cat", "dog"]),
        ("There is foci of the lung", []),
        ("It is of the", []),
        ("UPPER LEFT LUNG.", []),
        ("左肺中部", ["左肺中部"]),
        ("12 %", []),
        ("", []),
    ],
)
def test_a_text_is_unfamiliar_where_most_of_its_words_are(text, words, trained, images, recwarn):
    assert trained.unfamiliar_words(text) == words
    trained(images[:1], [text])
    warned = [str(warning.message) for warning in recwarn]
    assert len(warned) == bool(words) and all(f"{text!r} ({', '.join(words)})" in message for message in warned)


def test_many_unfamiliar_texts_of_a_call_give_one_warning(trained, images):
    texts = ["hello world", "hello world", *(f"word{letter}" for letter in "abcd")]
    with pytest.warns(UserWarning, match=r"'hello world' \(hello, world\); .*'wordb' \(wordb\) and 2 more") as warned:
        trained(text=texts)
    assert len(warned) == 1


def test_without_known_words_nothing_is_unfamiliar(processor, recwarn):
    processor(text=["hello world"])
    assert not recwarn.list and processor.unfamiliar_words("hello world") == []


def test_known_words_survive_save_and_load_and_an_older_folder_has_none(trained, tmp_path):
    trained.save_pretrained(tmp_path)
    assert TeViAProcessor.from_pretrained(tmp_path).known_words == trained.known_words
    settings = json.loads((tmp_path / "processor_config.json").read_text("utf-8"))
    del settings["known_words"]
    (tmp_path / "processor_config.json").write_text(json.dumps(settings), "utf-8")
    assert TeViAProcessor.from_pretrained(tmp_path).known_words is None


@pytest.mark.parametrize(("text", "count"), [(SHORT, 1), ([SHORT] * 2, 2), ([], 0)])
def test_counts_of_images_and_texts_that_differ_are_refused(processor, images, text, count):
    with pytest.raises(ValueError, match=f"3 images but {count} texts: give one text per image"):
        processor(images, text)


def test_text_that_is_no_string_is_refused_with_its_index(processor, images):
    with pytest.raises(TypeError, match="text 1 is a float: give a string, or None for no text"):
        processor(images, [SHORT, float("nan"), SHORT])


def test_a_call_needs_images_or_text_and_masks_need_images(processor, images):
    with pytest.raises(ValueError, match="Give `images`, `text` or both"):
        processor()
    with pytest.raises(ValueError, match="`segmentation_maps` need their `images`"):
        processor(text=SHORT, segmentation_maps=images[0] > 99)


def test_image_settings_may_be_given_for_one_call(processor, images):
    assert processor(images, size={"height": 8, "width": 4}).pixel_values.shape == (3, 3, 8, 4)
    with pytest.raises(TypeError, match="sise"):
        processor(images, sise=8)


@pytest.mark.parametrize(
    ("options", "tokens"),
    [
        ({}, 5),
        ({"padding": "longest"}, 5),
        ({"padding": "max_length"}, 8),
        ({"padding": "max_length", "max_length": 6}, 6),
        ({"pad_to_multiple_of": 4}, 8),
        ({"max_length": 8, "truncation": "longest_first"}, 5),
        ({"text_kwargs": {"padding": "max_length", "max_length": 7}}, 7),
        ({"common_kwargs": {"return_tensors": "pt"}, "padding": "max_length"}, 8),
    ],
)
def test_options_of_the_tokenizer_are_applied(processor, images, options, tokens):
    for given in ([SHORT, "lung", None], [SHORT, "lung", ""]):
        inputs = processor(images, given, **options)
        assert inputs.input_ids.shape == inputs.attention_mask.shape == (3, tokens)
        assert inputs.attention_mask.sum(dim=1).tolist() == [5, 3, 0]


def test_options_may_be_given_separately_for_text_and_images(processor, images):
    apart = processor(images, [SHORT] * 3, text_kwargs={"padding": "max_length"}, images_kwargs={"size": 8})
    flat = processor(images, [SHORT] * 3, padding="max_length", size=8)
    assert apart.pixel_values.shape == (3, 3, 8, 8)
    assert all(torch.equal(apart[name], flat[name]) for name in flat)
    mixed = processor(images, [SHORT] * 3, images_kwargs={"return_tensors": "np"})
    assert type(mixed.pixel_values) is np.ndarray and type(mixed.input_ids) is torch.Tensor
    with pytest.raises(ValueError, match="padding was passed two times"):
        processor(images, [SHORT] * 3, padding=True, text_kwargs={"padding": "max_length"})


@pytest.mark.parametrize(
    "options",
    [
        {"paddding": True},
        {"return_offsets_mapping": True},
        {"padding_side": "left"},
        {"do_rescale": False},
        {"text_kwargs": {"size": 8}},
        {"images_kwargs": {"padding": "max_length"}},
        {"videos_kwargs": {}},
        {"segmentation_map": None},
    ],
)
def test_options_that_do_not_exist_are_refused_with_those_that_do(processor, images, options):
    with pytest.raises(TypeError, match=r"takes no \w+: give any of (padding|do_resize), .*return_tensors") as caught:
        processor(images, [SHORT] * 3, **options)
    assert "Kwargs" not in str(caught.value) and "__init__" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_length": 9}, "`max_length` is 9 tokens, of which the model reads 8 .*give at most 8"),
        ({"max_length": 9, "padding": "max_length"}, "`max_length` is 9 tokens"),
        ({"truncation": False}, "The longest text is 11 tokens, of which the model reads 8 .*`truncation` at True"),
        ({"truncation": False, "pad_to_multiple_of": 6}, "The longest text is 12 tokens"),
        ({"max_length": 2}, "leaves no token of the text: give 3 or more"),
        ({"padding": "longst"}, "longst is not a valid PaddingStrategy"),
        ({"max_length": "6"}, "Field 'max_length' with value '6'"),
    ],
)
def test_tokens_beyond_what_the_model_reads_are_refused(processor, options, message):
    with pytest.raises(SETTING_ERRORS, match=message):
        processor(text=LONG, **options)


def test_text_longer_than_max_length_is_truncated_with_a_warning(processor):
    with pytest.warns(UserWarning, match="truncated to the limit of 4: .*raise `max_length`, to 8 at most"):
        inputs = processor(text=SHORT, max_length=4)
    assert [WORDS[token] for token in inputs.input_ids[0]] == ["[CLS]", "upper", "left", "[SEP]"]


def test_a_length_that_an_encoder_was_trained_with_neither_limits_nor_lengthens_texts(images, text_encoder, tmp_path):
    settings = json.loads((text_encoder / "tokenizer_config.json").read_text())
    (text_encoder / "tokenizer_config.json").write_text(json.dumps(settings | {"max_length": 4}))
    short = TeViAProcessor.from_encoders(tmp_path, text_encoder, max_text_length=8)
    long = TeViAProcessor(TeViAImageProcessor(), AutoTokenizer.from_pretrained(text_encoder, max_length=9))
    long.tokenizer.model_max_length = 8
    for processor in (short, long):
        assert processor(text=SHORT, padding="max_length").input_ids.shape == (1, 8)


def test_defaults_given_on_loading_reach_both_parts(processor, images, tmp_path):
    processor.save_pretrained(tmp_path)
    settings = {"size": 8, "do_antialias": False, "padding": "max_length", "model_max_length": 7}
    loaded = TeViAProcessor.from_pretrained(tmp_path, **settings)
    inputs = loaded(images, [SHORT] * 3)
    assert inputs.pixel_values.shape == (3, 3, 8, 8) and not loaded.image_processor.do_antialias
    assert inputs.input_ids.shape == (3, 7)
    given = TeViAImageProcessor(size=12)
    assert TeViAProcessor.from_pretrained(tmp_path, image_processor=given).image_processor is given


def test_what_the_parts_give_alone_is_what_the_model_takes(images, tmp_path):
    model, processor = tiny_reader(), tiny_processor()
    processor.save_pretrained(tmp_path)
    model.save_pretrained(tmp_path)
    expected = model(**processor(images[:2], ["left lung", "upper left lung"])).logits
    for processor_class in (AutoProcessor, TeViAProcessor):
        loaded = processor_class.from_pretrained(tmp_path)
        loaded.save_pretrained(tmp_path / "again")
        for folder in (tmp_path, tmp_path / "again"):
            tokenizer = AutoTokenizer.from_pretrained(folder)
            tokens = tokenizer(["left lung", "upper left lung"], padding=True, return_tensors="pt")
            pixels = AutoImageProcessor.from_pretrained(folder)(images[:2])
            assert torch.equal(model(**pixels, **tokens).logits, expected)
            one = AutoTokenizer.from_pretrained(folder)("left lung", return_tensors="pt")
            assert set(one) == set(loaded.tokenizer("left lung")) == {"input_ids", "attention_mask"}


def test_saving_leaves_the_processor_as_it_was(processor, tmp_path):
    processor.save_pretrained(tmp_path)
    loaded = TeViAProcessor.from_pretrained(tmp_path)
    before = loaded.to_dict()
    loaded.save_pretrained(tmp_path / "again")
    assert loaded.to_dict() == before == TeViAProcessor.from_pretrained(tmp_path / "again").to_dict()


def test_numpy_arrays_are_returned_on_request(processor, images):
    inputs = processor(images, [SHORT] * 3, return_tensors="np")
    assert {type(array) for array in inputs.values()} == {np.ndarray}


def test_post_processing_gives_masks_at_the_original_size(processor):
    outputs = SimpleNamespace(logits=torch.tensor([[[[-9.0, 9.0]]]]))
    (mask,) = processor.post_process_segmentation(outputs, target_sizes=[(2, 4)])
    assert mask.tolist() == [[0, 0, 1, 1]] * 2
    (probabilities,) = processor.post_process_segmentation(outputs, [(2, 4)], return_probabilities=True)
    assert probabilities.shape == (1, 2, 4)


def settings_of(processor):
    """The settings without the reference to saved code, which a processor of our own class does not need."""
    whole = processor.to_dict()
    whole["image_processor"].pop("auto_map", None)
    return whole | {"auto_map": None}


def test_processors_survive_save_and_load(processor, images, tmp_path):
    AutoImageProcessor.register(ThrowawayConfig, image_processor_classes={"pil": TeViAImageProcessor}, exist_ok=True)
    AutoProcessor.register(ThrowawayConfig, TeViAProcessor, exist_ok=True)
    processor.save_pretrained(tmp_path)
    expected = processor(images, [SHORT, "lung", None])
    for loader in (TeViAProcessor, AutoProcessor):
        loaded = loader.from_pretrained(tmp_path)
        assert type(loaded) is TeViAProcessor
        assert settings_of(loaded) == settings_of(processor)
        assert loaded.tokenizer.model_max_length == 8
        inputs = loaded(images, [SHORT, "lung", None])
        assert all(torch.equal(inputs[name], expected[name]) for name in expected)


def test_from_encoders_takes_pixels_from_vision_and_words_from_text(text_encoder, tmp_path):
    vision = tmp_path / "vision"
    TeViAImageProcessor(image_mean=[0.1, 0.2, 0.3], image_std=[0.5, 0.5, 0.5]).save_pretrained(vision)
    processor = TeViAProcessor.from_encoders(vision, text_encoder, max_text_length=5, num_labels=3, image_std=0.25)
    assert processor.image_processor.image_mean == (0.1, 0.2, 0.3)
    assert processor.image_processor.image_std == 0.25
    assert processor.image_processor.num_labels == 3
    assert processor.tokenizer.model_max_length == 5
    assert processor(text=SHORT).input_ids.tolist() == [[2, 5, 7, 9, 3]]


def test_from_encoders_works_for_an_encoder_without_an_image_processor(text_encoder, tmp_path):
    processor = TeViAProcessor.from_encoders(tmp_path, text_encoder)
    assert processor.image_processor.to_dict() == TeViAImageProcessor().to_dict()
    assert processor.tokenizer.model_max_length == 64


@pytest.mark.parametrize("names", [{0: "background", 1: "benign", 2: "malignant"}, {0: "tumour"}, {}])
def test_the_names_that_a_model_takes_set_the_number_of_labels(names, text_encoder, tmp_path):
    config = TeViAConfig(use_text=False, id2label=names or None)
    processor = TeViAProcessor.from_encoders(tmp_path, text_encoder, id2label=names or None)
    assert processor.image_processor.num_labels == config.num_labels == max(len(names), 1)


@pytest.mark.parametrize(
    ("names", "num_labels", "message"),
    [
        ({0: "background", 1: "benign", 2: "malignant"}, 2, "`num_labels` is 2, but `id2label` names 3 labels"),
        ({1: "benign", 2: "malignant"}, None, "number the labels 0, 1, 2"),
    ],
)
def test_names_that_a_model_would_not_take_are_refused(names, num_labels, message, text_encoder, tmp_path):
    with pytest.raises(ValueError, match=message):
        TeViAProcessor.from_encoders(tmp_path, text_encoder, num_labels=num_labels, id2label=names)


@pytest.mark.parametrize(
    ("model_type", "tokenizer_settings"), [("cxr-bert", {}), ("bert", {"tokenizer_class": "CXRBertTokenizer"})]
)
def test_cxr_bert_is_read_as_bert_without_remote_code(model_type, tokenizer_settings, tmp_path):
    remote = {"auto_map": {"AutoConfig": "remote.Config", "AutoTokenizer": ["remote.Tokenizer", None]}}
    (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type} | remote))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(tokenizer_settings | remote))
    (tmp_path / "vocab.txt").write_text("\n".join(WORDS))
    processor = TeViAProcessor.from_encoders(tmp_path, tmp_path, max_text_length=7)
    assert type(processor.tokenizer) is BertTokenizer
    assert processor.tokenizer.model_max_length == 7
    assert processor(text=SHORT).input_ids.tolist() == [[2, 5, 7, 9, 3]]


def test_an_image_file_and_its_text_are_accepted(processor, tmp_path):
    Image.new("L", (30, 20), 90).save(tmp_path / "a.png")
    inputs = processor(tmp_path / "a.png", SHORT)
    assert inputs.pixel_values.shape == (1, 3, 16, 16) and inputs.input_ids.shape == (1, 5)
