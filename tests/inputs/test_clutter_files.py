"""Files left in folders by operating systems and programs are ignored and counted."""

import pytest
from builders import answer, data_set, examined, lesion, mentions, noise, put, refusal_or_report
from layouts import mosmed, qata

from tevia_cli.main import main
from tevia_hf import load_segmentation_dataset
from tevia_hf.data.registry import list_examples
from tevia_hf.inference.items import list_images

APPLE = b"\0\5\x16\7\0\2\0\0Mac OS X        " + bytes(60)  # how AppleDouble files begin

CLUTTER = {
    "._a.png": APPLE,
    "._b.png": APPLE,
    "._c.png": APPLE,
    ".DS_Store": b"\0\0\0\1Bud1",
    "Thumbs.db": b"\xd0\xcf\x11\xe0",
    "desktop.ini": b"[.ShellClassInfo]\r\n",
    ".a.png.swp": b"b0VIM",
    "._.DS_Store": APPLE,
    "a.png~": b"",
    ".~lock.a.png#": b",ana,",
}


def sound_set(root, **columns):
    return data_set(root, {"a": lesion(), "b": lesion().T}, **columns)


def clutter(folder, names=tuple(CLUTTER)):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_bytes(CLUTTER[name])


@pytest.mark.parametrize("name", CLUTTER)
@pytest.mark.parametrize("part", ["images", "masks", "."])
def test_clutter_in_a_data_set_is_no_fault(tmp_path, part, name):
    clutter(sound_set(tmp_path) / part, [name])
    report = examined(tmp_path)
    assert report.faults == [] and report.splits["train"]["examples"] == 2
    assert load_segmentation_dataset("folder", tmp_path)["id"][:] == ["a", "b"]


def test_what_was_left_out_is_counted(tmp_path):
    root = sound_set(tmp_path)
    clutter(root / "images", ["._a.png", "._b.png"])
    clutter(root / "masks", ["._a.png"])
    report = examined(root)
    lines = [line for line in report.text().splitlines() if mentions([line], "left out", "ignored", "no data", "._")]
    assert mentions(lines, "3") or (mentions(lines, "2") and mentions(lines, "1"))


@pytest.mark.parametrize("folder", ["__MACOSX", ".git", ".ipynb_checkpoints", "@eaDir", ".Trashes"])
@pytest.mark.parametrize("part", [".", "images", "masks"])
def test_a_folder_of_clutter_is_no_fault(tmp_path, folder, part):
    root = sound_set(tmp_path)
    put(root / part / "elsewhere.png", noise())
    (root / part / folder / "images").mkdir(parents=True)
    (root / part / "elsewhere.png").rename(root / part / folder / "a.png")
    clutter(root / part / folder / "images", ["._a.png"])
    assert examined(root).faults == []


@pytest.mark.parametrize("name", ["~$table.xlsx", ".~lock.table.csv#", "._table.csv", ".table.csv.swp", "._table.xlsx"])
def test_a_lock_file_beside_the_table_is_no_table(tmp_path, name):
    root = sound_set(tmp_path)
    (root / name).write_bytes(APPLE)
    assert refusal_or_report(root)[0] == []
    assert [example.text is not None for example in list_examples("folder", root).examples] == [True, True]


def test_a_set_of_published_shape_may_hold_clutter(tmp_path):
    for name, write in (("qata", qata), ("mosmed", mosmed)):
        root = tmp_path / name
        write(root)
        for folder in [path for path in root.rglob("*") if path.is_dir()]:
            clutter(folder, ["._a.png", ".DS_Store", "Thumbs.db"])
        clutter(root / "__MACOSX", ["._a.png"])
        assert list_examples(name, root).problems == []


def test_a_folder_to_predict_may_hold_clutter(tmp_path):
    root = sound_set(tmp_path)
    clutter(root / "images")
    (root / "images" / "__MACOSX").mkdir()
    assert [getattr(path, "name", str(path)) for path in list_images([root / "images"])] == ["a.png", "b.png"]


def test_a_folder_of_nothing_but_clutter_holds_no_image(tmp_path):
    clutter(tmp_path / "images")
    assert answer(lambda: list_images([tmp_path / "images"])).error


def test_clutter_costs_a_prediction_nothing(tmp_path, reader_dir, capsys):
    root = sound_set(tmp_path)
    clutter(root / "images")
    out = tmp_path / "out"
    assert main(["predict", reader_dir, str(root / "images"), "--text", "left", "--output-dir", str(out)]) == 0
    assert sorted(path.name for path in out.glob("*.png")) == ["a.png", "b.png"]
    capsys.readouterr()


def test_an_image_whose_name_begins_with_a_dot_is_read_where_it_is_named(tmp_path):
    put(tmp_path / ".own.png", noise())
    assert len(list_images([tmp_path / ".own.png"])) == 1


def test_a_row_of_a_file_that_is_clutter_is_a_fault(tmp_path):
    root = sound_set(tmp_path)
    clutter(root / "images", ["._c.png"])
    clutter(root / "masks", ["._c.png"])
    with (root / "table.csv").open("a") as file:
        file.write('"._c.png","Left","train"\n')
    assert refusal_or_report(root)[0]
