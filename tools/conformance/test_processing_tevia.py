"""transformers' tests of processors, on ours."""

import unittest
from unittest.mock import patch

from tiny import tiny_tokenizer
from upstream.test_processing_common import MODALITY_TEST_SPECS, ProcessorTesterMixin

from tevia_hf import TeViAImageProcessor, TeViAProcessor

# The mixin tells that an option arrived by a mean of the pixels of at most 0.
DARKEN = {"normalization": "fixed", "image_mean": 1.0}


@patch.dict(MODALITY_TEST_SPECS["images"], init_time_kwargs=DARKEN)
class TeViAProcessorTest(ProcessorTesterMixin, unittest.TestCase):
    processor_class = TeViAProcessor

    @classmethod
    def _setup_tokenizer(cls):
        return tiny_tokenizer(limit=200)

    @classmethod
    def _setup_image_processor(cls):
        return TeViAImageProcessor(size={"height": 32, "width": 32})
