"""Foreign text has no effect on a terminal, in Markdown, in Python code or as a file name."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from red_cli import console, escape
from red_cli.errors import UserError
from red_cli.progress import Terminal
from red_cli.report.document import ReportDocument, Section, Table, render_html, render_markdown
from tests.tiny import sentences, write_csv

# Clears the screen; writes over the line; deletes; a CSI of one byte; reverses what follows; no character
CONTROLS = ["\x1b[2J", "\r", "\b", "\x9b31m", "\x7f", "\u202e", "\u2066", "\u2028", "\x00", "\udc80"]
NASTY = "a" + "".join(CONTROLS) + "z"
RAW = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
LINES = ["---", "```", "````", "# heading", "</div><script>alert(1)</script>", "| cell |", "[x](javascript:y)"]


def test_a_terminal_shows_control_characters() -> None:
    assert escape.terminal_text("\x1b[31mred\r\n\tü😀\u202e") == "\\x1b[31mred\\x0d\n\tü😀\\u202e"
    assert escape.terminal_line("a\n\tb\x9b") == "a\\n\\tb\\x9b"
    assert not RAW.search(escape.terminal_text(NASTY))


def printed(terminal: Terminal) -> dict[str, Callable[[], None]]:
    """Every function that prints text from files, called with a malicious text."""
    return {
        "error": lambda: console.print_error(UserError("file-damaged", NASTY, hint=NASTY)),
        "lines": lambda: console.print_lines([(NASTY, NASTY)]),
        "columns": lambda: console.print_columns([[NASTY, NASTY], [NASTY, NASTY]]),
        "text": lambda: console.print_text(NASTY),
        "heading": lambda: console.print_heading(NASTY),
        "piece": lambda: console.print_piece(NASTY),
        "next": lambda: console.next_commands(NASTY),
        "dimmed": lambda: console.print_dimmed([(NASTY, True), (NASTY, False)]),
        "note": lambda: terminal.note(NASTY),
    }


@pytest.mark.parametrize("name", printed(Terminal()))
def test_whatever_prints_escapes(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    printed(Terminal())[name]()
    shown = "".join(capsys.readouterr())
    assert "\\x1b[2J" in shown
    assert not RAW.search(shown)


def test_a_live_line_escapes(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for key, value in {"FORCE_COLOR": "1", "TERM": "xterm", "TTY_COMPATIBLE": "1", "TTY_INTERACTIVE": "1"}.items():
        monkeypatch.setenv(key, value)
    with Terminal() as terminal:
        assert terminal.live
        terminal.status("[bold]" + NASTY)
        terminal._show(1, 2, NASTY)
    shown = capsys.readouterr().err
    assert "\x1b[2J" not in shown
    assert "\u202e" not in shown


def test_a_row_stays_a_row(capsys: pytest.CaptureFixture[str]) -> None:
    console.print_lines([("[red]label[/]", "one\ntwo")])
    assert capsys.readouterr().out == "[red]label[/]  one\\ntwo\n"


def test_json_says_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    value = {"ü" + NASTY: [NASTY, "日本\n\t"]}
    console.print_json(value)
    text = capsys.readouterr().out
    assert json.loads(text) == value
    assert not RAW.search(text)
    assert "日本" in text


@pytest.mark.parametrize("text", [NASTY, "a`b``c", 'say "x"', "it's", "\n".join(LINES), "\\", "'\"", "{x}"])
def test_text_stays_in_its_place(text: str) -> None:
    assert ast.literal_eval(escape.python_string(text)) == text
    assert "\n" not in escape.python_string(text)
    for written in (escape.markdown_text(text), escape.markdown_code(text)):
        assert "\n" not in written
        assert not RAW.search(written)
    assert not re.search(r"(?<!\\)[`*_|<>\[\]#~$&]", escape.markdown_text(text).replace("\\\\", ""))
    code = escape.markdown_code(text)
    fence = re.match("`+", code)
    assert fence is not None
    assert fence[0] not in re.findall("`+", code[len(fence[0]) : -len(fence[0])])
    first, *body, last = escape.markdown_block(text + "\n", "yaml").rstrip("\n").split("\n")
    assert first == f"{last}yaml"
    assert set(last) == {"`"}
    assert not [line for line in body if line.strip().startswith(last)]


@pytest.mark.parametrize("text", ["../../x", "/etc/x", "a/b", "a\\b", "..", ".", "", "a\nb", "a\0b", "\x1b[2J"])
def test_a_file_name_names_one_file(text: str, tmp_path: Path) -> None:
    name = escape.file_name(text)
    assert Path(name).name == name
    assert (tmp_path / name).resolve().parent == tmp_path.resolve()
    assert not RAW.search(name)
    for usual in ("glue_sst2-roberta-base-red++-seed42", "llama-3.2-1b", "my data ü", ".hidden"):
        assert escape.file_name(usual) == usual


def test_reports_escape() -> None:
    texts = [*LINES, NASTY]
    table = Table([NASTY, *LINES], [texts, texts], left=2)
    document = ReportDocument(" ".join(texts), [Section(text, text) for text in texts])
    document.sections.append(Section(table=table, items=texts))
    page, text = render_html(document), render_markdown(document)
    assert "<script" not in page
    assert not RAW.search(page)
    assert not RAW.search(text)
    assert "<script" not in text.replace("\\<", "")
    assert not [line for line in text.splitlines() if line.startswith(("---", "```"))]


def test_data_and_labels_are_shown_escaped(red: Callable, recipe: Path, tmp_path: Path) -> None:
    """In the plan, in examples, and in messages about a row."""
    rows = [
        {**row, "text": f"\x1b[2J {row['text']} \u202e", "label": f"{row['label']}\x9b"} for row in sentences(40, 0)
    ]
    folder = tmp_path / "data"
    folder.mkdir()
    for split in ("train", "validation"):
        write_csv(folder / f"{split}.csv", rows)
    outcome = red("check", recipe, f"data.path={folder}")
    assert outcome.code == 0, outcome.err
    assert "positive\\x9b" in outcome.out
    assert not RAW.search(outcome.out)
    write_csv(folder / "validation.csv", [{**rows[0], "label": "\x1b]0;x\x07"}])
    outcome = red("check", recipe, f"data.path={folder}")
    assert outcome.code == 2
    assert not RAW.search(outcome.err)
    outcome = red("check", recipe, "data.path=\x1b[2J/\u202e")
    assert outcome.code == 2
    assert not RAW.search(outcome.err)
