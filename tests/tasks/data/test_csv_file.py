"""CSV and TSV files: delimiters, quoting, sizes of cells, odd headers, and what is said about faults."""

from __future__ import annotations

import csv
import gzip
import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from red_cli.tasks.data.file_rows import read_file_rows
from red_cli.tasks.data.rows import Rows
from tests.failures import fails


def read(path: Path, content: str | bytes, delimiter: str | None = None) -> Rows:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return read_file_rows([path], delimiter)


# content of a .csv -> its delimiter, its columns
FOUND = {
    "comma": ("text,label\na;b,x\n", ",", {"text": ["a;b"], "label": ["x"]}),
    "semicolon": ('text;label\n"a;b, c";x\nd, e;y\n', ";", {"text": ["a;b, c", "d, e"], "label": ["x", "y"]}),
    "tab": ("text\tlabel\na, b\tx\n", "\t", {"text": ["a, b"], "label": ["x"]}),
    "bar": ("text|label\na, b|x\n", "|", {"text": ["a, b"], "label": ["x"]}),
    "one column": ("text\na; b\nc\n", ",", {"text": ["a; b", "c"]}),
    "a comma that fits wins": ("a;b,c\n1;2,3\n", ",", {"a;b": ["1;2"], "c": ["3"]}),
}


@pytest.mark.parametrize(("content", "delimiter", "columns"), FOUND.values(), ids=FOUND.keys())
def test_the_delimiter_is_found(tmp_path: Path, content: str, delimiter: str, columns: dict) -> None:
    rows = read(tmp_path / "train.csv", content)
    assert rows.table.to_pydict() == columns
    assert bool(rows.notes) == (delimiter != ",")
    assert read(tmp_path / "named.csv", content, delimiter).table.to_pydict() == columns
    assert not read(tmp_path / "named.csv", content, delimiter).notes


def test_a_tsv_has_no_quoting(tmp_path: Path) -> None:
    content = 'text\tlabel\n"Start here\tpos\nmid "film"\tneg\r\n"again, good"\tpos\n\n \t\n'
    rows = read(tmp_path / "train.tsv", content)
    assert rows.column("text") == ['"Start here', 'mid "film"', '"again, good"', " "]
    assert rows.column("label") == ["pos", "neg", "pos", ""]
    assert [rows.number(index) for index in range(4)] == [1, 2, 3, 5]
    assert len(rows.notes) == 1  # one cell looks quoted
    assert not read(tmp_path / "train.tsv", 'text\tlabel\nso "fine"\tpos\n').notes
    comma = read(tmp_path / "train.tsv", "text,label\na,b\n")
    assert comma.column("label") == ["b"]
    assert comma.notes


@pytest.mark.parametrize("name", ["train.csv", "train.tsv", "train.csv.gz"])
def test_cells_of_any_size(tmp_path: Path, name: str) -> None:
    huge, delimiter = "good " * 500_000, "\t" if "tsv" in name else ","
    content = f"text{delimiter}label\nfine{delimiter}x\n{huge}{delimiter}y\n".encode()
    rows = read(tmp_path / name, gzip.compress(content) if name.endswith("gz") else content)
    assert rows.column("text") == ["fine", huge]
    assert rows.column("label") == ["x", "y"]


@given(
    st.lists(st.lists(st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), max_size=5),
                      min_size=2, max_size=2), min_size=1, max_size=4),
    st.sampled_from(",;|\t"),
    st.sampled_from(["\n", "\r\n"]),
)  # fmt: skip
def test_cells_are_kept_as_they_are(tmp_path_factory: pytest.TempPathFactory, cells: list, delimiter: str, end: str):
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter, lineterminator=end, quoting=csv.QUOTE_ALL).writerows([["a", "b"], *cells])
    path = tmp_path_factory.mktemp("csv") / "train.csv"
    rows = read(path, b"\xef\xbb\xbf" + text.getvalue().encode(), delimiter)
    assert [list(row.values()) for row in rows.table.to_pylist()] == cells


def test_columns_that_nobody_asks_for_do_no_harm(tmp_path: Path) -> None:
    rows = read(tmp_path / "train.csv", ",text,id,id,,label\n0,good,1,x,,pos\n1,bad,,2.5,,neg\n")
    assert rows.column("text") == ["good", "bad"]
    assert rows.column("label") == ["pos", "neg"]
    with fails("file-damaged", "train.csv", "'id'"):
        rows.column("id")
    with fails("column-not-found", "' Label'", "Did you mean 'label'?"):
        rows.column(" Label")


# name -> content, code, facts
FAULTS = {
    "too few cells": ("train.csv", "text,label\na,b\n\nc\n", ("train.csv, row 3: 1 cell,",)),
    "too many cells": ("train.tsv", "text\tlabel\na\tb\nc\td\te\n", ("train.tsv, row 2: 3 cells",)),
    "an open quote": ("train.csv", 'text,label\na,b\n"c,d\ne,f\n', ("row 2 (line 3)", "never closed")),
    "text after a quote": ("train.csv", 'text,label\n"a" b,c\n', ("row 1 (line 2)", "quotation mark")),
    "rows that quotes glue": ("train.csv", 'text,label\n"Start,x\nmid,y\n"again,x\nend,y\n', ("row 1 (line 2)",)),
    "latin-1": ("train.csv", "text,label\na,b\ncafé,b\n".encode("latin-1"), ("line 3", "0xe9", "UTF-8")),
    "UTF-16": ("train.csv", "text,label\na,b\n".encode("utf-16"), ("UTF-16",)),
    "gzip without its ending": ("train.csv", gzip.compress(b"text,label\na,b\n"), ("gzip", "train.csv.gz")),
    "a workbook": ("train.csv", b"PK\x03\x04\x14\x00\x08\xff", (".xlsx",)),
    "half a gzip": ("train.csv.gz", gzip.compress(b"text,label\na,b\n" * 99)[:40], ("train.csv.gz",)),
    "no gzip": ("train.csv.gz", b"text,label\na,b\n", ("train.csv.gz",)),
}


@pytest.mark.parametrize(("name", "content", "facts"), FAULTS.values(), ids=FAULTS.keys())
def test_a_fault_is_named_with_its_place(tmp_path: Path, name: str, content: str | bytes, facts: tuple) -> None:
    with fails("file-damaged", *facts):
        read(tmp_path / name, content)
