"""output_spread.json of a run folder: the spread of each edited module's output in the base without edits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from red_cli.errors import UserError
from red_cli.files import read_json


@dataclass(frozen=True)
class OutputSpread:
    """The content of output_spread.json.

    Attributes:
        rows: the number of training rows that were measured.
        tokens: the most tokens that a module saw.
        modules: path of a module -> median over the features of the standard deviation of its output over tokens.
    """

    rows: int
    tokens: int
    modules: Mapping[str, float]


def read_output_spread(path: Path) -> OutputSpread | None:
    """Read output_spread.json of a run; None if there is no such file.

    Raises:
        UserError: the file is damaged.
    """
    if not path.is_file():
        return None
    content = read_json(path)
    if not _is_output_spread(content):
        raise UserError("file-damaged", f"{path} is damaged", hint="Delete it: the report is made without it.")
    return OutputSpread(content["rows"], content["tokens"], content["modules"])


def _is_output_spread(content: Any) -> bool:
    """Whether the content of output_spread.json is complete and of the right types."""
    if not isinstance(content, dict) or not isinstance(content.get("modules"), dict):
        return False
    numbers = [content.get("rows"), content.get("tokens")]
    spreads = content["modules"].values()
    return all(isinstance(number, int) for number in numbers) and all(
        isinstance(value, int | float) for value in spreads
    )
