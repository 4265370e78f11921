"""Tables of texts are read as intended, or the error names the line and the fault."""

import unicodedata

import datasets
import openpyxl
import pytest
from builders import (
    answer,
    data_set,
    examined,
    folder,
    lesion,
    mentions,
    noise,
    put,
    refusal_or_report,
    spoken_of,
    table,
)
from PIL import Image

from tevia_hf import load_segmentation_dataset
from tevia_hf.data.ready import ready_dataset
from tevia_hf.data.registry import list_examples
from tevia_hf.data.tables import read_table, texts_for
from tevia_hf.inference.item_tables import items_of_table

HEAD = "Image,Description,split\n"


def plain(root, text="", names=("a", "b"), suffix=".png", file_name="table.csv", encoding="utf-8"):
    """Images and masks, and a table with this text."""
    folder(root)
    for number, name in enumerate(names):
        put(root / "images" / f"{name}{suffix}", noise(seed=number))
        put(root / "masks" / f"{name}{suffix}", lesion())
    (root / file_name).write_bytes(text.encode(encoding))
    return root


def csv(root, text, encoding="utf-8", name="table.csv"):
    (root / name).write_bytes(text.encode(encoding))
    return root / name


def xlsx(root, rows, name="table.xlsx"):
    book = openpyxl.Workbook()
    for row in rows:
        book.active.append(row)
    book.save(root / name)
    return root / name


# Text stays text

WORDS = ["NA", "N/A", "NULL", "null", "None", "nan", "NaN", "n/a", "<NA>", "-", "001", "1.0", "1e3", "True", "#N/A"]


@pytest.mark.parametrize("word", WORDS)
def test_a_text_that_looks_like_no_value_stays_a_text(tmp_path, word):
    held = read_table(csv(tmp_path, f'Image,Description,split,group\n"a","{word}",train,"{word}"\n'))
    assert held["Description"].tolist() == [word] and held["group"].tolist() == [word]


@pytest.mark.parametrize("word", WORDS[:-1])  # the last is an error of Excel's own
def test_so_does_one_of_excel(tmp_path, word):
    rows = [["Image", "Description", "group"], ["a", word, word]]
    held = read_table(xlsx(tmp_path, rows))
    assert held["Description"].tolist() == [word] and held["group"].tolist() == [word]


def test_a_file_whose_name_looks_like_no_value_has_a_name(tmp_path):
    assert read_table(csv(tmp_path, HEAD + "NA,Left,train\n001,Right,val\n"))["Image"].tolist() == ["NA", "001"]


def test_an_empty_cell_is_no_text(tmp_path):
    assert read_table(csv(tmp_path, HEAD + 'a,,train\nb,"",val\n'))["Description"].tolist() == [None, None]


def test_a_patient_whose_initials_are_na_lies_in_one_split_only(tmp_path):
    root = plain(tmp_path, "Image,Description,split,group\na,Left,train,NA\nb,Right,val,NA\n")
    assert mentions(refusal_or_report(root)[0], "more than one split")


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_a_patient_is_one_in_either_unicode_form(tmp_path, form):
    other = {"NFC": "NFD", "NFD": "NFC"}[form]
    names = [unicodedata.normalize(way, "Müller") for way in (form, other)]
    root = plain(tmp_path, f"Image,Description,split,group\na,Left,train,{names[0]}\nb,Right,val,{names[1]}\n")
    assert mentions(refusal_or_report(root)[0], "more than one split")


def test_patients_numbered_001_and_1_are_two(tmp_path):
    root = plain(tmp_path, "Image,Description,split,group\na,Left,train,001\nb,Right,val,1\n")
    assert refusal_or_report(root)[0] == []


# Delimiters and quotation marks


def rows_of(path):
    held = read_table(path)
    return held[["Image", "Description", "split"]].values.tolist()


GIVEN = [["a.png", "Left lesion, upper", "train"], ["b.png", "Right lesion", "val"]]


@pytest.mark.parametrize("delimiter", [";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_another_delimiter_is_found_or_named(tmp_path, delimiter, encoding):
    text = "\n".join(delimiter.join(row) for row in [["Image", "Description", "split"], *GIVEN]) + "\n"
    given = answer(lambda: rows_of(csv(tmp_path, text, encoding)))
    if given.error is None:
        assert given.value == GIVEN
    else:
        assert given.names("semicolon", "delimiter", "comma", "tab", "UTF-8")


def test_a_comma_within_quotation_marks_and_semicolons_between_is_read(tmp_path):
    text = 'Image;Description;split\na.png;"Left lesion; upper, one";train\n'
    given = answer(lambda: rows_of(csv(tmp_path, text)))
    assert given.names("semicolon", "comma") if given.error else given.value[0][1] == "Left lesion; upper, one"


def test_semicolons_in_texts_are_no_delimiters(tmp_path):
    text = HEAD + "a.png,Left lesion; upper; one,train\nb.png,Right; lower; two,val\n"
    assert [row[1] for row in rows_of(csv(tmp_path, text))] == ["Left lesion; upper; one", "Right; lower; two"]


def test_a_line_that_names_the_delimiter_is_no_header(tmp_path):
    text = "sep=;\nImage;Description;split\na.png;Left lesion;train\n"
    given = answer(lambda: rows_of(csv(tmp_path, text)))
    assert given.error or given.value == [["a.png", "Left lesion", "train"]]


UNQUOTED = {
    "in every text": "a.png,Left lesion, one area, upper,train\nb.png,Right lesion, one area, upper,val\n",
    "in the second text": "a.png,Left lesion,train\nb.png,Right lesion, upper,val\n",
    "one in every text": "a.png,Left lesion, upper,train\nb.png,Right lesion, upper,val\n",
}


@pytest.mark.parametrize("text", UNQUOTED.values(), ids=UNQUOTED)
def test_texts_with_commas_and_without_quotation_marks_are_named(tmp_path, text):
    given = answer(lambda: read_table(csv(tmp_path, HEAD + text)))
    assert given.error and given.names("quot", "fields")


def test_the_line_and_both_counts_of_fields_are_named(tmp_path):
    lines = [f"p{number}.png,Left lesion {number},train" for number in range(5)] + ["x.png,Left, upper, one,train"]
    given = answer(lambda: read_table(csv(tmp_path, HEAD + "\n".join(lines) + "\n")))
    assert given.error and all(word in given.error for word in ("7", "5", "3"))


def test_a_comma_at_the_end_of_every_line_moves_no_column(tmp_path):
    path = csv(tmp_path, "Image,Description\na.png,Left lesion,\nb.png,Right lesion,\n")
    given = answer(lambda: read_table(path))
    if given.error is None:
        assert given.value["Image"].tolist() == ["a.png", "b.png"]
        assert given.value["Description"].tolist() == ["Left lesion", "Right lesion"]
    else:
        assert given.names("quot", "fields", "comma")


def test_check_data_names_the_quotation_marks_too(tmp_path):
    root = plain(tmp_path, HEAD + UNQUOTED["in every text"])
    assert mentions(refusal_or_report(root)[0], "quot", "fields")


def test_a_line_with_too_few_fields_is_named(tmp_path):
    given = answer(lambda: spoken_of(plain(tmp_path, HEAD + "a.png,Left lesion,train\nb.png\n")))
    assert given.error or mentions(given.value, "b.png", "'b'", "line 3")


def test_line_breaks_and_quotation_marks_within_texts_are_kept(tmp_path):
    text = HEAD + 'a.png,"Left lesion,\n""round"", upper",train\r\nb.png,"5"" lesion",val\r\n'
    assert [row[1] for row in rows_of(csv(tmp_path, text))] == ['Left lesion,\n"round", upper', '5" lesion']


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "mac-roman"])
def test_texts_in_another_encoding_are_read_or_refused(tmp_path, encoding):
    given = answer(lambda: rows_of(csv(tmp_path, HEAD + "a.png,Läsion größer,train\n", encoding)))
    assert given.names("UTF-8") if given.error else given.value[0][1] == "Läsion größer"


# Columns


@pytest.mark.parametrize("name", ["patient", "Patient ID", "patient_id", "subject", "PatientID", "study"])
def test_a_column_that_looks_like_a_patient_is_named(tmp_path, name):
    root = plain(tmp_path, f"Image,Description,split,{name}\na,Left,train,p1\nb,Right,val,p1\n")
    assert mentions(spoken_of(root), name)


@pytest.mark.parametrize("name", ["fold", "subset", "partition"])
def test_a_column_that_looks_like_a_split_is_named(tmp_path, name):
    root = plain(tmp_path, f"Image,Description,{name}\na,Left,train\nb,Right,val\n")
    assert mentions(spoken_of(root), name)


def test_a_column_that_is_there_twice_is_named(tmp_path):
    given = answer(lambda: spoken_of(plain(tmp_path, "Image,Description,Description\na,Left,One\nb,Right,Two\n")))
    assert given.error or mentions(given.value, "Description")


def test_columns_that_are_known_need_no_warning(tmp_path):
    report = examined(data_set(tmp_path, {"a": lesion(), "b": lesion().T}, group=["p", "q"]))
    assert report.is_sound and not mentions(report.warnings, "column")


# Names


@pytest.mark.parametrize("suffix", [".PNG", ".Png", ".TIF"])
def test_suffixes_are_read_without_case(tmp_path, suffix):
    root = plain(tmp_path, HEAD + f"a{suffix.lower()},Left,train\nb{suffix},Right,val\n", suffix=suffix)
    assert refusal_or_report(root)[0] == []


@pytest.mark.parametrize("name", ["table.CSV", "Table.Csv"])
def test_a_table_is_found_and_read_whatever_the_case_of_its_suffix(tmp_path, name):
    assert read_table(csv(tmp_path, HEAD + "a,Left,train\n", name=name))["Description"].tolist() == ["Left"]
    root = plain(tmp_path / "set", HEAD + "a,Left,train\nb,Right,val\n", file_name=name)
    listing = list_examples("folder", root)
    assert [example.text for example in listing.examples] == ["Left", "Right"]


def test_so_is_one_of_excel_in_capitals(tmp_path):
    rows = [["Image", "Description"], ["a", "Left"]]
    assert read_table(xlsx(tmp_path, rows, "TABLE.XLSX"))["Description"].tolist() == ["Left"]


@pytest.mark.parametrize("of_file", ["NFC", "NFD"])
@pytest.mark.parametrize("of_table", ["NFC", "NFD"])
def test_a_name_is_one_in_either_unicode_form(tmp_path, of_file, of_table):
    name = unicodedata.normalize(of_file, "Müller_1")
    text = unicodedata.normalize(of_table, HEAD + "Müller_1.png,Left,train\nb.png,Right,val\n")
    faults = refusal_or_report(plain(tmp_path, text, names=(name, "b")))[0]
    assert not faults or mentions(faults, "unicode", "NFD", "NFC")


def test_image_and_mask_pair_in_either_unicode_form(tmp_path):
    root = plain(tmp_path, HEAD + "Müller.png,Left,train\nb.png,Right,val\n", names=("b",))
    for part, form in (("images", "NFC"), ("masks", "NFD")):
        put(root / part / unicodedata.normalize(form, "Müller.png"), noise(seed=7) if part == "images" else lesion())
    faults = refusal_or_report(root)[0]
    assert not faults or mentions(faults, "unicode", "NFD", "NFC")


def test_a_table_of_texts_finds_its_images_in_either_unicode_form(tmp_path):
    image = tmp_path / unicodedata.normalize("NFD", "Größe.png")
    put(image, noise())
    path = csv(tmp_path, unicodedata.normalize("NFC", "Image,Description\nGröße.png,Left\n"))
    given = answer(lambda: [item.text for item in items_of_table(path, [image])])
    assert given.names("unicode", "NFD", "NFC") if given.error else given.value == ["Left"]
    wanted = unicodedata.normalize("NFD", "Größe")
    given = answer(lambda: texts_for(path, [wanted]))
    assert given.names("unicode", "NFD", "NFC") if given.error else given.value == ["Left"]


# Excel


def test_empty_rows_of_excel_are_no_rows(tmp_path):
    rows = [["Image", "Description"], ["a", "Left"], [None, None], ["b", "Right"], ["", " "], [None, None]]
    assert read_table(xlsx(tmp_path, rows))["Image"].tolist() == ["a", "b"]


def test_empty_lines_of_a_csv_are_no_rows(tmp_path):
    assert read_table(csv(tmp_path, HEAD + "a,Left,train\n,,\n\nb,Right,val\n,,\n"))["Image"].tolist() == ["a", "b"]


def test_a_row_with_a_text_and_no_name_is_still_refused(tmp_path):
    given = answer(lambda: read_table(csv(tmp_path, HEAD + "a,Left,train\n,Right,val\n")))
    assert given.error and "3" in given.error


def test_whole_numbers_of_excel_are_written_without_a_point(tmp_path):
    rows = [["Image", "Description", "group"], ["a", "Left", 1], ["b", "Right", None], ["c", "Right", 12]]
    assert read_table(xlsx(tmp_path, rows))["group"].tolist() == ["1", None, "12"]


# Data sets in memory


def in_memory(kind, texts, column="text", **columns):
    count = len(texts)
    rows = {
        "image": [Image.fromarray(noise(seed=k)) for k in range(count)],
        "mask": [Image.fromarray(lesion())] * count,
    }
    rows |= {"text": ["Left", "Right", "Left"][:count]} | columns | {column: texts}
    kinds = {"image": datasets.Image(), "mask": datasets.Image(), "text": datasets.Value("string"), column: kind}
    kinds |= {name: datasets.Value("string") for name in columns}
    return datasets.Dataset.from_dict(rows, features=datasets.Features(kinds))


NAMES = ["No lesion.", "Lesion in the left lung."]


@pytest.mark.parametrize("column", ["text", "group", "id"])
def test_names_of_classes_take_the_place_of_their_numbers(column):
    dataset = in_memory(datasets.ClassLabel(names=NAMES), [1, 0], column)
    given = answer(lambda: ready_dataset(dataset)[column][:])
    assert given.names(column) if given.error else given.value == [NAMES[1], NAMES[0]]


def test_names_of_classes_that_lack_a_value_are_no_text():
    dataset = in_memory(datasets.ClassLabel(names=NAMES), [1, None, 0])
    given = answer(lambda: ready_dataset(dataset)["text"][:])
    assert given.names("text") if given.error else given.value == [NAMES[1], None, NAMES[0]]


def test_so_it_is_in_a_stream():
    stream = in_memory(datasets.ClassLabel(names=NAMES), [1, 0]).to_iterable_dataset()
    given = answer(lambda: [row["text"] for row in ready_dataset(stream)])
    assert given.names("text") if given.error else given.value == [NAMES[1], NAMES[0]]


@pytest.mark.parametrize("kind", [datasets.Value("int64"), datasets.Value("float32")])
def test_numbers_are_no_texts(kind):
    given = answer(lambda: ready_dataset(in_memory(kind, [1, 0]))["text"][:])
    assert given.names("text")


SEVERAL = [["Left lesion.", "A lesion, left."], ["No lesion.", "Nothing."]]


def first_text(text):
    return text if isinstance(text, str) else text[0]


def test_several_texts_of_an_image_are_all_kept_or_refused_by_name():
    dataset = in_memory(datasets.List(datasets.Value("string")), SEVERAL)
    given = answer(lambda: ready_dataset(dataset)["text"][:])
    if given.error is None:
        assert [first_text(text) for text in given.value] == [texts[0] for texts in SEVERAL]
    else:
        assert given.names("text")


def test_an_image_without_any_of_several_texts_has_none():
    dataset = in_memory(datasets.List(datasets.Value("string")), [["Left.", "To the left."], []])
    given = answer(lambda: ready_dataset(dataset)["text"][:])
    if given.error is None:
        assert given.value[1] in (None, "", [])
    else:
        assert given.names("text")


def test_nested_texts_are_refused_by_name():
    dataset = in_memory(datasets.List(datasets.List(datasets.Value("string"))), [[["Left."]], [["No."]]])
    given = answer(lambda: ready_dataset(dataset)["text"][:])
    assert given.error is not None and given.names("text")


def test_the_texts_of_a_data_set_on_disk_are_those_of_its_table(tmp_path):
    texts = ["NA", "001", "Left, upper; one"]
    data_set(tmp_path, {name: lesion() for name in "abc"})
    table(tmp_path, list("abc"), texts)
    assert load_segmentation_dataset("folder", tmp_path)["text"][:] == texts
