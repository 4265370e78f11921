"""Figshare's records of brain tumours, read by `read_image`."""

import h5py
import numpy as np
import pytest
from medical_files import RAMP, write_figshare

from tevia_hf.data.figshare import read_kind_and_patient
from tevia_hf.io import is_image_file, is_medical, parse_address, read_image, stem, with_window


def test_an_image_and_its_mask_are_the_right_way_up(tmp_path):
    image = np.arange(6, dtype=np.int16).reshape(2, 3) * 1000
    path = write_figshare(tmp_path / "7.mat", image)
    read = read_image(path)
    assert read.array.dtype == np.int16 and read.spacing_mm is None
    np.testing.assert_array_equal(read.array, image)
    mask = read_image(path, is_mask=True).array
    assert mask.dtype == np.uint8
    np.testing.assert_array_equal(mask, image > 0)


def test_a_record_is_kind_and_patient(tmp_path):
    assert read_kind_and_patient(write_figshare(tmp_path / "7.mat", RAMP)) == (2, "MR017260F")


@pytest.mark.parametrize("read", [read_image, read_kind_and_patient])
def test_another_matlab_file_is_refused_with_what_is_missing(tmp_path, read):
    with h5py.File(tmp_path / "7.mat", "w") as file:
        file["other"] = 1
    with pytest.raises(ValueError, match=r"7\.mat.*cjdata"):
        read(tmp_path / "7.mat")


def test_a_missing_record_is_reported_as_missing(tmp_path):
    with pytest.raises(FileNotFoundError, match="a.mat"):
        read_image(tmp_path / "a.mat")


def test_a_record_has_neither_slices_nor_windows():
    assert is_image_file("7.mat") and is_medical("7.mat") and stem("d/7.mat") == "7"
    assert (parse_address("7.mat#4").number, with_window("7.mat", (40, 400)).window) == (None, None)


@pytest.mark.parametrize("module", ["features", "collate", "brain"])
def test_every_process_that_reads_data_sets_reads_records(module, fresh_interpreter):
    """A spawned data worker imports the modules of the data set only, not those that built it."""
    code = f"import tevia_hf.data.{module}, tevia_hf.io as io; assert '.mat' in io.supported_suffixes()"
    assert fresh_interpreter.run(code).returncode == 0


def test_reading_images_knows_nothing_of_this_data_set(fresh_interpreter):
    code = "import tevia_hf.io as io; assert '.mat' not in io.supported_suffixes()"
    assert fresh_interpreter.run(code).returncode == 0
