"""Escape text from files, data or the Hub for terminals, JSON, Markdown, LaTeX, Python and file names."""

from __future__ import annotations

import re

# Characters that a terminal acts on: C0 except newline and tab, DEL, C1, line separators, overrides of the writing
# direction; and lone surrogates, which cannot be encoded.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_MARKDOWN = re.compile(r"([\\`*_|<>\[\]#~$&]|^[-+=](?=[-+= ]|$))")  # also rules and list items at the beginning
_BACKTICKS = re.compile("`+")
_NOT_IN_NAMES = re.compile(r"[/\\\n\t]")
_SHORTEST_FENCE = 3
_LATEX = {
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", '"': r"\textquotedbl{}",
    "±": r"$\pm$", "−": "$-$", "×": r"$\times$", "…": r"\dots{}",
    **{character: f"\\{character}" for character in "&%$#_{}"},
}  # fmt: skip
_LAST_LATIN = 0x17F  # every LaTeX typesets the letters up to here


def terminal_text(text: str) -> str:
    """`text` with control characters escaped as in Python, such as `\\x1b`; newlines and tabs stay."""
    return _CONTROL.sub(_escape_sequence, text)


def terminal_line(text: str) -> str:
    """`text` on one line: newlines and tabs are escaped too."""
    return terminal_text(text).replace("\n", r"\n").replace("\t", r"\t")


def json_text(text: str) -> str:
    """JSON with control characters, which occur only in strings, escaped as `\\uXXXX`; the content is the same."""
    return _CONTROL.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def markdown_text(text: str) -> str:
    """Markdown for `text` on one line, without markup."""
    return _MARKDOWN.sub(r"\\\1", terminal_text(" ".join(text.split())))


def markdown_code(text: str) -> str:
    """A Markdown code span on one line; its fence is longer than any run of backticks in `text`."""
    text = terminal_text(" ".join(text.split()))
    fence = "`" * (_longest_backticks(text) + 1)
    space = " " if len(fence) > 1 else ""
    return f"{fence}{space}{text}{space}{fence}"


def markdown_block(text: str, language: str) -> str:
    """A fenced Markdown code block; its fence is longer than any run of backticks in `text`."""
    fence = "`" * max(_SHORTEST_FENCE, _longest_backticks(text) + 1)
    return f"{fence}{language}\n{text}{fence}\n"


def python_string(text: str) -> str:
    """Escape a text for Python, as a literal in double quotes if these need no escaping."""
    literal = repr(text)
    return f'"{literal[1:-1]}"' if literal[0] == "'" and '"' not in text else literal


def file_name(text: str) -> str:
    """Escape `text` for the name of one file or folder: no separators and control characters."""
    name = _NOT_IN_NAMES.sub("_", _CONTROL.sub("_", text))
    return "_" if name in ("", ".", "..") else name


def _escape_sequence(match: re.Match[str]) -> str:
    """The escape sequence that shows a matched control character by its hexadecimal code."""
    code = ord(match[0])
    return f"\\x{code:02x}" if code <= 0xFF else f"\\u{code:04x}"


def _longest_backticks(text: str) -> int:
    """The length of the longest run of backticks in a text, which a Markdown fence must exceed."""
    return max((len(run) for run in _BACKTICKS.findall(text)), default=0)


def latex_text(text: str) -> str:
    """LaTeX for `text`, with control characters escaped; characters not in the usual fonts become codes."""
    return "".join(_LATEX.get(character) or _in_latin(character) for character in terminal_line(text))


def _in_latin(character: str) -> str:
    """A character of a table of many runs for LaTeX, or its code if the usual fonts do not have it."""
    return character if ord(character) <= _LAST_LATIN else f"[U+{ord(character):04X}]"
