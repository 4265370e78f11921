"""A tiny TeViA model that is built quickly and without files."""

import torch
from transformers import BertConfig, BertTokenizer, ConvNextConfig

from tevia_hf import TeViAConfig, TeViAForSegmentation, TeViAImageProcessor, TeViAProcessor

WORDS = (
    "[PAD] [UNK] [CLS] [SEP] [MASK] bilateral unilateral pulmonary infection , . one two three four infected area "
    "areas all upper middle lower left right lung and"
).split()


def tiny_vision_config() -> ConvNextConfig:
    return ConvNextConfig(depths=[1, 1, 1, 1], hidden_sizes=[8, 8, 8, 16])


def tiny_text_config() -> BertConfig:
    return BertConfig(
        vocab_size=len(WORDS),
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=32,
    )


def tiny_config(**kwargs) -> TeViAConfig:
    settings = {
        "backbone_config": tiny_vision_config(),
        "text_config": tiny_text_config(),
        "max_text_length": 24,
        "head_channels": 8,
        **kwargs,
    }
    return TeViAConfig(**settings)


def tiny_tokenizer(limit: int = 24) -> BertTokenizer:
    vocabulary = {word: index for index, word in enumerate(WORDS)}
    return BertTokenizer(vocab=vocabulary, do_lower_case=True, model_max_length=limit)


def tiny_processor(size: int = 32, **kwargs) -> TeViAProcessor:
    image_processor = TeViAImageProcessor(size={"height": size, "width": size}, **kwargs)
    return TeViAProcessor(image_processor, tiny_tokenizer())


def tiny_reader(**kwargs) -> TeViAForSegmentation:
    """A model whose masks depend on the text and cover about half of the pixels."""
    torch.manual_seed(0)
    model = TeViAForSegmentation(tiny_config(**kwargs))
    torch.nn.init.zeros_(model.decode_head.classifier.bias)
    return model.eval()
