"""Paths that name a slice and a window."""

import os
from pathlib import Path

import pytest

from tevia_hf.io import (
    ImageRef,
    is_image_file,
    parse_address,
    stem,
    supported_suffixes,
    with_window,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("d/scan.nii.gz", ("d/scan.nii.gz", "axial", None, None)),
        ("scan.nii.gz#40", ("scan.nii.gz", "axial", 40, None)),
        ("scan.NII#coronal:40", ("scan.NII", "coronal", 40, None)),
        ("scan.nii#sagittal:middle@40,400", ("scan.nii", "sagittal", "middle", (40.0, 400.0))),
        ("scan.dcm#3", ("scan.dcm", "axial", 3, None)),
        ("ct.nii.gz#40@-600,1500", ("ct.nii.gz", "axial", 40, (-600.0, 1500.0))),
        ("ct.dicom#@40.5,400.25", ("ct.dicom", "axial", None, (40.5, 400.25))),
        ("a.dcm#1/scan.nii#0", ("a.dcm#1/scan.nii", "axial", 0, None)),
        ("case#40.png", ("case#40.png", "axial", None, None)),
        ("scan.dcm#40.png", ("scan.dcm#40.png", "axial", None, None)),
        ("a.dcm#1/scan.nii", ("a.dcm#1/scan.nii", "axial", None, None)),
        ("a.dcm#1/photo.png", ("a.dcm#1/photo.png", "axial", None, None)),
    ],
)
def test_an_address_names_file_plane_slice_and_window(text, expected):
    image = parse_address(text)
    assert image == ImageRef(Path(expected[0]), *expected[1:])
    assert parse_address(Path(text)) == parse_address(image) == image


@pytest.mark.parametrize(
    "fragment", ["-1", "4o", "oblique:3", "3@40", "3@40,0", "@40,-400", "coronal40", "1,2", "@inf,1"]
)
def test_a_malformed_address_is_refused_with_one_that_is_right(fragment):
    with pytest.raises(ValueError, match=r"scan.nii#.*coronal:40.*@-600,1500"):
        parse_address(f"scan.nii#{fragment}")


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("ct.dcm", "ct.dcm#@40,400"),
        ("ct.nii.gz#coronal:7", "ct.nii.gz#coronal:7@40,400"),
        ("ct.nii.gz#7@-600,1500", "ct.nii.gz#7@-600,1500"),
        ("photo.png", "photo.png"),
    ],
)
def test_a_window_is_added_to_medical_files_that_have_none(path, expected):
    assert str(with_window(path, (40, 400))) == expected


def test_a_window_added_is_the_window_read_back():
    assert parse_address(with_window("a.nii", (0.123456789, 1234567.5))).window == (0.123456789, 1234567.5)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("d/scan.nii.gz", "scan"),
        ("scan.NII.GZ#40", "scan_40"),
        ("scan.nii#coronal:40@40,400", "scan_coronal_40"),
        ("scan.dcm#middle", "scan_middle"),
        ("ct.dcm#@40,400", "ct"),
        ("a.b.png", "a.b"),
        ("case#40.png", "case#40"),
    ],
)
def test_the_stem_keeps_the_slice_and_drops_suffix_and_window(path, expected):
    assert stem(path) == expected


def test_readable_files_are_known_by_name_with_or_without_address():
    assert {".png", ".dcm", ".dicom", ".nii", ".nii.gz"} <= set(supported_suffixes())
    readable = ["a.PNG", "a.dcm", "a.nii.gz", "a.nii.gz#4", "a.dcm#@40,400"]
    assert [path for path in [*readable, "a.gz", "a.txt", "table.csv", "nii.gz"] if is_image_file(path)] == readable


SPELLINGS = [
    "d/scan.nii.gz",
    "scan.nii#7",
    "scan.nii#middle",
    "scan.nii#coronal:40",
    "scan.nii#sagittal:",
    "a.dcm#3@40,400",
    "ct.dcm#@-600.25,1500",
    "scan.nii#coronal:middle@0.1,1000000",
    "case#40.png",
    "a.dcm#1/photo.png",
]


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_an_image_is_spelled_as_it_was_written(spelling):
    image = parse_address(spelling)
    assert str(image) == os.fspath(image) == spelling and image.name == spelling.rpartition("/")[2]
    assert parse_address(str(image)) == image


@pytest.mark.parametrize(
    ("written", "spelled"), [("a.nii#axial:3", "a.nii#3"), ("a.nii#007@40.0,400", "a.nii#7@40,400")]
)
def test_one_image_has_one_spelling(written, spelled):
    assert str(parse_address(written)) == spelled
