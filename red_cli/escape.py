"""Text from files, data or the Hub, escaped for the place where it is put."""

from __future__ import annotations

import re

# What a terminal acts on instead of showing: C0 but newline and tab, DEL, C1, line separators, overrides of the
# direction of writing; and lone surrogates, which no encoding has.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_MARKDOWN = re.compile(r"([\\`*_|<>\[\]#~$&]|^[-+=](?=[-+= ]|$))")  # at the beginning also rules and items
_BACKTICKS = re.compile("`+")
_NOT_IN_NAMES = re.compile(r"[/\\\n\t]")
_SHORTEST_FENCE = 3


def terminal_text(text: str) -> str:
    """`text` with control characters as Python writes them, such as `\\x1b`; newlines and tabs stay."""
    return _CONTROL.sub(_escape_sequence, text)


def terminal_line(text: str) -> str:
    """The same on one line: newlines and tabs are escaped as well."""
    return terminal_text(text).replace("\n", r"\n").replace("\t", r"\t")


def json_text(text: str) -> str:
    """JSON with control characters, which stand only inside its strings, as `\\uXXXX`: its content stays the same."""
    return _CONTROL.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def markdown_text(text: str) -> str:
    """Running text on one line, in which no Markdown reader finds markup."""
    return _MARKDOWN.sub(r"\\\1", terminal_text(" ".join(text.split())))


def markdown_code(text: str) -> str:
    """A code span on one line, whose fence is longer than any run of backticks in `text`."""
    text = terminal_text(" ".join(text.split()))
    fence = "`" * (_longest_backticks(text) + 1)
    space = " " if len(fence) > 1 else ""
    return f"{fence}{space}{text}{space}{fence}"


def markdown_block(text: str, language: str) -> str:
    """A fenced code block, whose fence is longer than any run of backticks in `text`."""
    fence = "`" * max(_SHORTEST_FENCE, _longest_backticks(text) + 1)
    return f"{fence}{language}\n{text}{fence}\n"


def python_string(text: str) -> str:
    """A literal of Python for `text`, in double quotes where these need no escaping."""
    literal = repr(text)
    return f'"{literal[1:-1]}"' if literal[0] == "'" and '"' not in text else literal


def file_name(text: str) -> str:
    """`text` as the name of one file or folder, without separators and control characters."""
    name = _NOT_IN_NAMES.sub("_", _CONTROL.sub("_", text))
    return "_" if name in ("", ".", "..") else name


def _escape_sequence(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\x{code:02x}" if code <= 0xFF else f"\\u{code:04x}"


def _longest_backticks(text: str) -> int:
    return max((len(run) for run in _BACKTICKS.findall(text)), default=0)
