"""Tables of texts: cells are kept as written, and shifted or hidden cells are rejected with their line."""

import datetime
import unicodedata

import openpyxl
import pytest

from tevia_hf.data.tables import open_table, read_table, texts_for, unread_columns

HEADER = "Image,Description,split,group\n"


def csv_of(folder, text, encoding="utf-8", name="t.csv"):
    (folder / name).write_bytes(text.encode(encoding))
    return folder / name


def xlsx_of(folder, *rows, change=lambda book: None):
    book = openpyxl.Workbook()
    for row in rows:
        book.active.append(row)
    change(book)
    book.save(folder / "t.xlsx")
    return folder / "t.xlsx"


def records(path):
    return read_table(path).to_dict("records")


@pytest.mark.parametrize("word", ["NA", "null", "001", "None", "nan", "N/A", "1.0", "TRUE"])
def test_text_stays_text(word, tmp_path):
    (row,) = records(csv_of(tmp_path, HEADER + f"{word},{word},train,{word}\n"))
    assert row == {"Image": word, "Description": word, "split": "train", "group": word}


def test_an_empty_cell_is_none(tmp_path):
    assert records(csv_of(tmp_path, HEADER + "a,,,\nb\n"))[1] == dict.fromkeys(HEADER.strip().split(",")) | {
        "Image": "b"
    }


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("mark", [",", ";", "\t"])
def test_the_delimiter_and_unicode_are_found(mark, encoding, tmp_path):
    rows = [["Image", "Description", "split"], ["ü.png", f'"left{mark} upper"', "train"], ["b.png", '"x, y; z"', "val"]]
    path = csv_of(tmp_path, "".join(mark.join(row) + "\r\n" for row in rows), encoding)
    assert [row["Image"] for row in records(path)] == ["ü.png", "b.png"]
    assert [row["Description"] for row in records(path)] == [f"left{mark} upper", "x, y; z"]


def test_a_semicolon_table_keeps_commas_without_quotes(tmp_path):
    path = csv_of(tmp_path, "sep=;\nImage;Description\na.png;left, upper\n")
    assert records(path) == [{"Image": "a.png", "Description": "left, upper"}]


def test_quotes_behind_a_blank_are_quotes(tmp_path):
    assert records(csv_of(tmp_path, 'Image, Description\na, "left, upper"\n'))[0]["Description"] == "left, upper"


@pytest.mark.parametrize(
    ("text", "encoding", "message"),
    [
        (
            "Image,Description\na,b\nb,größer\n",
            "cp1252",
            r"line 3 is not UTF-8 \(byte 0xf6\).*cp1252.*CSV UTF-8.*iconv",
        ),
        ("Image,Description\na,b\n", "utf-16-le", "looks like UTF-16.*CSV UTF-8"),
        ("PK\x03\x04", "utf-8", "Excel workbook by its content: rename it to end in .xlsx"),
        ('Image,Description\na,"b\nb,c\n', "utf-8", r"quotation marks do not match \(line 2"),
    ],
)
def test_another_encoding_or_open_quotes_are_refused_with_the_fix(text, encoding, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        read_table(csv_of(tmp_path, text, encoding))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "Image,Description,split\n\na,left, upper,train\n",
            "line 3 has 4 fields, the header 3: put texts with commas",
        ),
        ('Image,Description\n"a","x\ny"\nb,l, u\n', "line 4 has 3 fields, the header 2"),
        ("Image,Description\na,left,\nb,right,\n", r"2 problems:\n  line 2 has 3 fields, the header 2"),
        ("Image,Description,\na,left, upper\n", "line 2 holds 'upper' in column 3, which has no name"),
        ("Image,Description,split\n,left,train\n", "row 2 has no file name"),
        ("Image,Description,image\na,b,c\n", "several columns are called Image: keep one"),
        ("file_name,Caption\na,b\n", "no column Image and Description.*Rename 'file_name' to Image and 'Caption' to"),
    ],
)
def test_cells_that_slid_or_are_missing_are_refused_with_their_line(text, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        read_table(csv_of(tmp_path, text))


def test_all_rows_that_slid_are_counted(tmp_path):
    with pytest.raises(ValueError, match=r"30 problems(.|\n)*line 11(.|\n)*and 20 more"):
        read_table(csv_of(tmp_path, "Image,Description\n" + "a,b,c\n" * 30))


def test_empty_rows_and_columns_without_a_name_do_no_harm(tmp_path):
    path = csv_of(tmp_path, ",Image,Description,,\n0,a,left,,\n,,,,\n\n1,b,right,,\n")
    assert records(path) == [{"Image": "a", "Description": "left"}, {"Image": "b", "Description": "right"}]


def test_capitals_of_columns_and_suffix_make_no_difference(tmp_path):
    path = csv_of(tmp_path, "IMAGE,description,Split,GROUP\na,b,TRAIN,p\n", name="T.CSV")
    assert records(path) == [{"Image": "a", "Description": "b", "split": "train", "group": "p"}]


def test_groups_are_of_one_unicode_form(tmp_path):
    forms = [unicodedata.normalize(form, "Müller") for form in ("NFC", "NFD")]
    table = read_table(csv_of(tmp_path, HEADER + "".join(f"{k},x,train,{form}\n" for k, form in enumerate(forms))))
    assert set(table["group"]) == {forms[0]}


@pytest.mark.parametrize("suffix", [".xls", ".ods", ".tsv"])
def test_other_kinds_of_table_are_refused_by_name(suffix, tmp_path):
    with pytest.raises(ValueError, match=f"ending in '{suffix}' cannot be read. Save it as UTF-8 CSV or xlsx"):
        read_table(csv_of(tmp_path, HEADER, name=f"t{suffix}"))


def test_cells_of_excel_are_read_as_they_are_shown(tmp_path):
    def format_as_three_digits(book):
        book.active["D2"].number_format = "000"

    path = xlsx_of(
        tmp_path, ["Image", "description", None, "group"], [1, True, None, 7], [2.0, 0.1 + 0.2, None, "NA"], [None] * 4,
        change=format_as_three_digits,
    )  # fmt: skip
    assert records(path) == [
        {"Image": "1", "Description": "TRUE", "group": "007"},
        {"Image": "2", "Description": "0.3", "group": "NA"},
    ]


@pytest.mark.parametrize(
    ("row", "change", "message"),
    [
        (
            ["a", datetime.datetime(2024, 1, 2), "p"],
            None,
            "row 3: the cell Description is a date .*format the column as",
        ),
        (["a", "#REF!", "p"], None, "row 3: the cell Description is a formula error"),
        (["a", "b", None], "C2:C3", "row 3: the cell group is merged with that of row 2: unmerge them and fill"),
        ([None, "b", "p"], None, "row 3 has no file name"),
    ],
    ids=["date", "error", "merged", "no image"],
)
def test_cells_of_excel_that_hide_what_they_hold_are_refused(row, change, message, tmp_path):
    def merge(book):
        if change:
            book.active.merge_cells(change)

    with pytest.raises(ValueError, match=message):
        read_table(xlsx_of(tmp_path, ["Image", "Description", "group"], ["z", "y", "x"], row, change=merge))


def test_other_sheets_that_hold_data_are_named(tmp_path):
    def add_sheets(book):
        book.create_sheet("empty")
        book.create_sheet("val").append(["Image", "Description"])

    path = xlsx_of(tmp_path, ["Image", "Description"], ["a", "b"], change=add_sheets)
    with pytest.warns(UserWarning, match="only the first sheet 'Sheet' is read; the sheets 'val' hold data too"):
        assert len(read_table(path)) == 1
    assert len(open_table(path).notes) == 1


@pytest.mark.parametrize(
    ("column", "expected"), [("patient", "group"), ("Patient_ID", "group"), ("case", "group"), ("fold", "split")]
)
def test_a_column_that_looks_like_a_group_or_split_is_named(column, expected, tmp_path):
    table = read_table(csv_of(tmp_path, f"Image,Description,{column}\na,b,c\n"))
    assert (
        f"`{column}` looks like the {expected} but is not read: rename it to `{expected}`" in unread_columns(table)[0]
    )
    assert not unread_columns(table.rename(columns={column: expected}), [expected])


def test_rows_may_be_named_by_masks_with_a_common_ending(tmp_path):
    path = csv_of(tmp_path, "Image,Description\nb_gt.png,right\na_gt.png,left\n")
    assert texts_for(path, ["a", "b"]) == ["left", "right"]


def test_a_workbook_with_a_cell_far_below_the_table_is_refused_before_it_is_read(tmp_path):
    book = openpyxl.Workbook()
    book.active.append(["Image", "Description"])
    book.active["XFD1048576"] = "x"
    book.save(tmp_path / "a.xlsx")
    with pytest.raises(ValueError, match=r"a\.xlsx: its first sheet claims 1,048,576 rows and 16,384 columns"):
        read_table(tmp_path / "a.xlsx")
