"""transformers' tests of models and configs, on ours."""

import unittest

import torch
import upstream.test_modeling_common as upstream_models
from tiny import WORDS, tiny_config
from upstream.test_configuration_common import ConfigTester
from upstream.test_modeling_common import ModelTesterMixin

from tevia_hf import TeViAConfig, TeViAForSegmentation, TeViAModel

# The tests know by these tables which classes have a loss, and of which labels.
for table, model_class in (
    (upstream_models.MODEL_MAPPING_NAMES, TeViAModel),
    (upstream_models.MODEL_FOR_SEMANTIC_SEGMENTATION_MAPPING_NAMES, TeViAForSegmentation),
):
    table["tevia"] = model_class.__name__


class TeViAModelTester:
    """Tiny inputs. The image is one column at stride 32, so that a map and a row of queries have one shape."""

    batch_size = 2
    height, width = 128, 32
    seq_length = 7
    key_length = seq_length
    encoder_seq_length, hidden_size = height // 32, width // 32
    num_hidden_layers = 3
    num_attention_heads = 4
    num_labels = 1
    is_training = True

    def __init__(self, parent: unittest.TestCase):
        self.parent = parent

    def get_config(self) -> TeViAConfig:
        return tiny_config(text_dropout=0.0)

    def prepare_config_and_inputs_for_common(self):
        generator = torch.Generator().manual_seed(0)
        ids = torch.randint(5, len(WORDS), (self.batch_size, self.seq_length), generator=generator)
        inputs = {
            "pixel_values": torch.randn(self.batch_size, 3, self.height, self.width, generator=generator),
            "input_ids": ids,
            "attention_mask": torch.ones_like(ids),
        }
        return self.get_config(), inputs


class TeViAModelTest(ModelTesterMixin, unittest.TestCase):
    all_model_classes = (TeViAModel, TeViAForSegmentation)
    _is_composite = True

    def setUp(self):
        self.model_tester = TeViAModelTester(self)
        self.config_tester = ConfigTester(self, config_class=TeViAConfig, has_text_modality=False, head_channels=8)

    def test_config(self):
        self.config_tester.run_common_tests()
