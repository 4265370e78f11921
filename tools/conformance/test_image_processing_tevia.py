"""transformers' tests of image processors, on ours."""

import unittest

from upstream.test_image_processing_common import ImageProcessingTester, ImageProcessingTestMixin

from tevia_hf import TeViAImageProcessor


class TeViAImageProcessingTester(ImageProcessingTester):
    def __init__(self, parent: unittest.TestCase):
        super().__init__(parent, batch_size=3, max_resolution=80, size={"height": 32, "width": 40})

    def _get_image_processing_classes(self):
        return {"pil": TeViAImageProcessor}


class TeViAImageProcessingTest(ImageProcessingTestMixin, unittest.TestCase):
    image_processor_tester_class = TeViAImageProcessingTester
    test_cast_dtype = True
