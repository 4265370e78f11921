"""Every family of text models fulfils the contract, with a tiny ConvNeXt."""

import json

import pytest
import torch
from contract import EncoderContract
from tiny import WORDS, tiny_text_config
from transformers import (
    AlbertConfig,
    BertForMaskedLM,
    CLIPTextConfig,
    DebertaV2Config,
    DistilBertConfig,
    ElectraConfig,
    ModernBertConfig,
    MPNetConfig,
    Qwen3Config,
    RobertaConfig,
    SiglipTextConfig,
    T5Config,
    XLMRobertaConfig,
)

from tevia_hf.encoder_quirks_tevia import TEXT_FAMILIES
from tevia_hf.text_encoder_tevia import TeViATextEncoder, load_text_config

SPECIAL = {"vocab_size": len(WORDS), "pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3}
SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
USUAL = {**SPECIAL, **SIZES, "max_position_embeddings": 40}


class TestBert(EncoderContract):
    text_config = tiny_text_config()


class TestT5(EncoderContract):
    text_config = T5Config(**SPECIAL, d_model=16, d_kv=8, d_ff=16, num_layers=2, num_heads=2)


class TestQwen3(EncoderContract):
    text_config = Qwen3Config(**USUAL, num_key_value_heads=1, head_dim=8)


class TestCXRBert(EncoderContract):
    @pytest.fixture(scope="class", autouse=True)
    def as_published(self, tmp_path_factory):
        """Its files are a BERT's, under a model type that requires code from the Hub."""
        folder = tmp_path_factory.mktemp("cxr-bert")
        BertForMaskedLM(tiny_text_config()).save_pretrained(folder)
        values = json.loads((folder / "config.json").read_text())
        remote = {"model_type": "cxr-bert", "auto_map": {"AutoConfig": "code.CXRBertConfig"}, "projection_size": 4}
        (folder / "config.json").write_text(json.dumps(values | remote))
        type(self).text_config = load_text_config(str(folder))


class TestRoberta(EncoderContract):
    text_config = RobertaConfig(**USUAL)


class TestXLMRoberta(EncoderContract):
    text_config = XLMRobertaConfig(**USUAL)


class TestDistilBert(EncoderContract):
    text_config = DistilBertConfig(**SPECIAL, dim=16, n_layers=2, n_heads=2, hidden_dim=16, max_position_embeddings=40)


class TestMPNet(EncoderContract):
    text_config = MPNetConfig(**USUAL)


class TestDebertaV2(EncoderContract):
    text_config = DebertaV2Config(
        **USUAL, relative_attention=True, pos_att_type=["p2c", "c2p"], position_biased_input=False
    )


class TestElectra(EncoderContract):
    text_config = ElectraConfig(**USUAL, embedding_size=8)


class TestAlbert(EncoderContract):
    text_config = AlbertConfig(**USUAL, embedding_size=8)


class TestModernBert(EncoderContract):
    text_config = ModernBertConfig(**USUAL, cls_token_id=2, sep_token_id=3, local_attention=8)


class TestCLIPText(EncoderContract):
    text_config = CLIPTextConfig(**USUAL)


class TestSiglipText(EncoderContract):
    text_config = SiglipTextConfig(**USUAL)


def test_every_supported_family_is_under_contract():
    contracts = [test for name, test in globals().items() if name.startswith("Test")]
    # CXR-BERT is read as a BERT: its own test reads it from files of the published shape.
    kinds = {"cxr-bert" if test.__name__ == "TestCXRBert" else test.text_config.model_type for test in contracts}
    assert kinds == set(TEXT_FAMILIES)


QWEN3_EMBEDDING = {
    "vocab_size": 151936, "hidden_size": 1024, "intermediate_size": 3072, "num_hidden_layers": 28,
    "num_attention_heads": 16, "num_key_value_heads": 8, "head_dim": 128, "max_position_embeddings": 32768,
}  # fmt: skip


def test_a_decoder_of_the_size_of_qwen3_embedding_builds():
    with torch.device("meta"):
        encoder = TeViATextEncoder(Qwen3Config(**QWEN3_EMBEDDING))
    assert sum(p.numel() for p in encoder.parameters()) == pytest.approx(0.6e9, rel=0.02)


def test_a_decoder_of_the_width_of_qwen3_embedding_reads():
    encoder = TeViATextEncoder(Qwen3Config(**QWEN3_EMBEDDING | {"vocab_size": 50, "num_hidden_layers": 1}))
    assert encoder(torch.arange(14).view(2, 7)).shape == (2, 7, 1024)


def test_a_decoder_caches_no_keys_and_values():
    model = TeViATextEncoder(TestQwen3.text_config).model
    assert model(input_ids=torch.tensor([[2, 7, 3]])).past_key_values is None
