"""Excel workbooks: the first sheet, every cell as text."""

from __future__ import annotations

import importlib.util
import zipfile
from pathlib import Path
from xml.sax.saxutils import escape

import pytest

from red_cli.tasks.data.file_rows import read_file_rows
from tests.extras import needs_extra
from tests.failures import fails

_MAIN = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'
_LINKS = 'xmlns:r="http://schemas.openxmlformats.org/officeDocument/2006/relationships"'
_OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_PACKAGE = 'xmlns="http://schemas.openxmlformats.org/package/2006/relationships"'


def write_workbook(path: Path, *sheets: list[list[object]]) -> None:
    """The least that is an .xlsx file: texts, numbers, truth values and empty cells."""

    def cell(place: str, value: object) -> str:
        if isinstance(value, bool):
            return f'<c r="{place}" t="b"><v>{int(value)}</v></c>'
        if isinstance(value, int | float):
            return f'<c r="{place}"><v>{value}</v></c>'
        return f'<c r="{place}" t="inlineStr"><is><t xml:space="preserve">{escape(str(value))}</t></is></c>'

    with zipfile.ZipFile(path, "w") as archive:
        numbers = range(1, len(sheets) + 1)
        links = "".join(
            f'<Relationship Id="r{n}" Type="{_OFFICE}/worksheet" Target="worksheets/sheet{n}.xml"/>' for n in numbers
        )
        named = "".join(f'<sheet name="Sheet {n}" sheetId="{n}" r:id="r{n}"/>' for n in numbers)
        start = f'<Relationship Id="r1" Type="{_OFFICE}/officeDocument" Target="xl/workbook.xml"/>'
        archive.writestr("_rels/.rels", f"<Relationships {_PACKAGE}>{start}</Relationships>")
        archive.writestr("xl/_rels/workbook.xml.rels", f"<Relationships {_PACKAGE}>{links}</Relationships>")
        archive.writestr("xl/workbook.xml", f"<workbook {_MAIN} {_LINKS}><sheets>{named}</sheets></workbook>")
        for n, rows in zip(numbers, sheets, strict=True):
            lines = "".join(
                f'<row r="{row}">' + "".join(
                    cell(f"{chr(65 + column)}{row}", value) for column, value in enumerate(cells) if value is not None
                ) + "</row>"
                for row, cells in enumerate(rows, start=1)
            )  # fmt: skip
            archive.writestr(
                f"xl/worksheets/sheet{n}.xml", f"<worksheet {_MAIN}><sheetData>{lines}</sheetData></worksheet>"
            )


SHEET = [["text", "label", None], ["good & <fine>", 1, None], [2020, 2.5, "x"], [None, None], ["so\nso", True]]


@needs_extra("excel")
def test_the_first_sheet_is_read(tmp_path: Path) -> None:
    write_workbook(tmp_path / "train.xlsx", SHEET)
    rows = read_file_rows([tmp_path / "train.xlsx"])
    assert rows.column("text") == ["good & <fine>", "2020", "so\nso"]
    assert rows.column("label") == ["1", "2.5", "true"]
    assert [rows.number(index) for index in range(3)] == [1, 2, 4]
    assert not rows.notes
    write_workbook(tmp_path / "train.xlsx", SHEET, [["other"]])
    assert len(read_file_rows([tmp_path / "train.xlsx"]).notes) == 1


@needs_extra("excel")
def test_a_file_that_is_no_workbook_is_named(tmp_path: Path) -> None:
    (tmp_path / "train.xlsx").write_text("text,label\n")
    with fails("file-damaged", "train.xlsx"):
        read_file_rows([tmp_path / "train.xlsx"])
    write_workbook(tmp_path / "train.xlsx", [["text", "label"]])
    with fails("no-rows", "train.xlsx"):
        read_file_rows([tmp_path / "train.xlsx"])


def test_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_workbook(tmp_path / "train.xlsx", SHEET)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with fails("missing-dependency", "train.xlsx", "pip install 'red-finetune[excel]'"):
        read_file_rows([tmp_path / "train.xlsx"])
