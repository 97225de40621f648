import csv
import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastbp.table import Table, TableError, read_table


@pytest.fixture
def write(tmp_path):
    """Write a file and return its path."""

    def write(content: str | bytes, name: str = "table.csv") -> str:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return str(path)

    return write


def columns(table: Table) -> dict[str, list[str]]:
    return {name: table.texts(name) for name in table.names}


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_delimiter_is_found(write, delimiter, end):
    lines = [delimiter.join(row) for row in (["a", "b", "c"], ["1", "x", "2.5"], ["3", "y", "4"])]
    table = read_table(write(end.join(lines) + end))
    assert columns(table) == {"a": ["1", "3"], "b": ["x", "y"], "c": ["2.5", "4"]}
    assert table.rows == 2


def test_tsv_is_split_at_tabs_whatever_is_in_it(write):
    assert read_table(write("a,b\tc,d\n1,2\t3,4\n", "table.tsv")).names == ("a,b", "c,d")


def test_decimal_commas_do_not_hide_the_semicolon(write):
    assert read_table(write("a;b\n1,5;2,5\n3,5;4,5\n")).names == ("a", "b")


def test_delimiter_may_be_given(write):
    assert columns(read_table(write("a:b\n1:2\n"), delimiter=":")) == {"a": ["1"], "b": ["2"]}


@pytest.mark.parametrize("delimiter", ["", "ab", "\n", '"'])
def test_delimiter_must_be_a_character(write, delimiter):
    with pytest.raises(TableError, match="delimiter must be one character"):
        read_table(write("a,b\n1,2\n"), delimiter)


def test_byte_order_mark_quotes_spaces_and_blank_lines(write):
    text = '\ufeff"name", "a ""big"" word"\n\n "x, y",1 \n"two\nlines", 2 \n\n'
    table = read_table(write(text))
    assert columns(table) == {"name": ["x, y", "two\nlines"], 'a "big" word': ["1", "2"]}


def test_last_line_needs_no_end(write):
    assert read_table(write("a,b\n1,2")).rows == 1


@pytest.mark.parametrize("missing", ["", " ", "NA", "n/a", "NaN", "nan", "-nan", "NULL", "null", "<NA>", "?"])
def test_missing_values(write, missing):
    table = read_table(write(f"a,b\n1,x\n{missing},{missing}\n"))
    assert np.array_equal(table.numbers("a"), [1, np.nan], equal_nan=True)
    assert table.texts("b") == ["x", ""]


def test_none_is_a_word(write):
    assert read_table(write("a,b\nnone,1\nNone,2\n")).texts("a") == ["none", "None"]


@pytest.mark.parametrize("text", ["x", "1_000", "0x10", "1,5", "1 2", "--1", "12%"])
def test_no_number(write, text):
    assert read_table(write(f'a;b\n1;2\n"{text}";3\n')).numbers("a") is None


def test_numbers_in_every_form(write):
    table = read_table(write("a,b\n-1.5e3,1\n+.25,1\n007,1\n1e400,1\n"))
    assert table.numbers("a").tolist() == [-1500, 0.25, 7, np.inf]


def test_unnamed_columns_get_their_position(write):
    assert read_table(write(",a,\n0,1,2\n")).names == ("column 1", "a", "column 3")


def test_many_chunks(write):
    count = 10_000
    table = read_table(write("a,b\n" + "".join(f"{row},t{row}\n" for row in range(count))))
    assert table.rows == count
    assert np.array_equal(table.numbers("a"), np.arange(count))
    assert table.texts("b")[-1] == f"t{count - 1}"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty"),
        (b"\n \n\n", "empty"),
        (b"\xef\xbb\xbf", "empty"),
        (b",,\n1,2,3\n", "empty"),
        (b"a,b\n", "a header, but no rows"),
        (b"a,b\n\n\n", "a header, but no rows"),
        (b"a,b\n1,2\n3\n4,5\n", "line 3 has 1 field, the header has 2"),
        (b"a,b\n1,2\n3,4,5\n", "line 3 has 3 fields, the header has 2"),
        (b'a,b\n"two\nlines",2\n3\n', "line 4 has 1 field"),
        (b"a,b\n1,2,\n", "line 2 has 3 fields"),
        (b"a,a\n1,2\n", "two columns have the name 'a'"),
        (b"\x7fELF\x02\x01\x00\x00\n", "a binary file"),
        (b"a,b\n" + b"1,2\n" * 100 + b"1,\x002\n", "a NUL byte"),
        (b"name,b\ncaf\xe9,1\n", "not UTF-8 text (found the byte 0xe9)"),
        ("a,b\n1,2\n".encode("utf-16"), "not UTF-8 text"),
        ("a,b\n1,2\n".encode("utf-16-le"), "a binary file"),
        (b'a,b\n"1,2\n3,4\n', "unexpected end of data"),
        (b'a,b\n"1"x,2\n', "line 2"),
        (b"a,b\n" + b"x" * 200_000 + b",2\n", "line 2: field larger than field limit"),
    ],
)
def test_unusable_files(write, content, message):
    path = write(content)
    with pytest.raises(TableError) as caught:
        read_table(path)
    assert message in str(caught.value)
    assert str(caught.value).startswith(path)
    assert "\n" not in str(caught.value)


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_table(tmp_path / "nowhere.csv")
    with pytest.raises(OSError):  # noqa: PT011 - which one depends on the system
        read_table(tmp_path)


words = st.text(st.characters(exclude_characters="\0\r\n", exclude_categories=["Cs"]), max_size=6)


@given(
    rows=st.lists(st.tuples(words, words, words), min_size=1, max_size=20),
    delimiter=st.sampled_from([",", ";", "\t", "|"]),
)
def test_what_csv_writes_is_read_back(tmp_path_factory, rows, delimiter):
    text = io.StringIO()
    writer = csv.writer(text, delimiter=delimiter, quoting=csv.QUOTE_ALL)
    writer.writerow(["first", "second", "third"])
    writer.writerows(rows)
    path = tmp_path_factory.mktemp("table") / "table.csv"
    path.write_text(text.getvalue(), encoding="utf-8", newline="")
    table = read_table(path, delimiter)
    missing = {"", "?", "na", "n/a", "<na>", "nan", "+nan", "-nan", "null"}
    for name, values in zip(table.names, zip(*rows, strict=True), strict=True):
        assert table.texts(name) == ["" if v.strip().lower() in missing else v.strip() for v in values]


@given(content=st.binary(max_size=200))
def test_any_bytes_are_a_table_or_an_error(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("bytes") / "table.csv"
    path.write_bytes(content)
    try:
        table = read_table(path)
    except TableError:
        return
    for name in table.names:
        assert len(table.texts(name)) == table.rows
