"""Each bias against the spread of its module's own output, which a run measures before training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from red_cli.errors import UserError
from red_cli.files import read_json
from red_cli.report.adapter_changes import AdapterChanges


@dataclass(frozen=True)
class OutputSpread:
    """What a run measured of its modules' outputs.

    Attributes:
        rows: the number of training rows.
        tokens: the most tokens that a module saw.
        modules: path of a module -> spread of its output in the base without edits.
    """

    rows: int
    tokens: int
    modules: Mapping[str, float]

    def shares(self, changes: AdapterChanges) -> dict[str, float]:
        """Path of a module -> root mean square of its bias, divided by the spread of its output."""
        return {
            module.path: module.changes["bias"].rms / self.modules[module.path]
            for module in changes.modules
            if "bias" in module.changes and self.modules.get(module.path)
        }


def read_output_spread(path: Path) -> OutputSpread | None:
    """Read what a run recorded for the spread of biases, output_spread.json; None if there is no such file.

    Raises:
        UserError: the file is damaged.
    """
    if not path.is_file():
        return None
    content = read_json(path)
    if not _is_sound(content):
        raise UserError("file-damaged", f"{path} is damaged", hint="Delete it: the report is made without it.")
    return OutputSpread(content["rows"], content["tokens"], content["modules"])


def _is_sound(content: Any) -> bool:
    """Whether the recorded spread, against which biases are set, is complete and of the right types."""
    if not isinstance(content, dict) or not isinstance(content.get("modules"), dict):
        return False
    numbers = [content.get("rows"), content.get("tokens")]
    spreads = content["modules"].values()
    return all(isinstance(number, int) for number in numbers) and all(
        isinstance(value, int | float) for value in spreads
    )
