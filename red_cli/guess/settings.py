"""Settings of a guessed recipe that depend on the number of rows and on the base."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from red_cli.base_model.base_files import stored_chat_template
from red_cli.recipe.load import load_recipe

_INSTRUCT = re.compile(r"(?:^|[-_/])(?:instruct|chat|it)(?:[-_.]|$)", re.IGNORECASE)
_SHIPPED = {"classification": "classification", "regression": "classification", "generation": "generation",
            "instruction": "instruction"}  # fmt: skip
# Rows below which the share of validation rows is this
_SHARES = ((1_000, 0.2), (20_000, 0.1), (100_000, 0.05))
_SMALLEST_SHARE = 0.02
_FEW_ROWS = 2_000  # fewer rows are trained in smaller batches, since the steps are few
_BATCHES = (16, 32)
_PATIENCE = (5, 3)  # evaluations; the scores of few rows jump
# Rows below which a task trains this many epochs
_EPOCHS = {
    "classification": ((10_000, 10), (50_000, 5)),
    "regression": ((10_000, 10), (50_000, 5)),
    "generation": ((10_000, 5),),
    "instruction": ((2_000, 5),),
}
_LEAST_EPOCHS = 3


@dataclass(frozen=True)
class Settings:
    """Settings for a number of rows.

    Attributes:
        share: the fraction of the rows that is taken for validation, if there is no file of it.
        patience: evaluations without improvement until a label task stops.
    """

    share: float
    batch_size: int
    epochs: int
    patience: int


def settings_for(task: str, rows: int) -> Settings:
    """The settings of a task on this many training rows."""
    share = next((share for below, share in _SHARES if rows < below), _SMALLEST_SHARE)
    epochs = next((epochs for below, epochs in _EPOCHS[task] if rows < below), _LEAST_EPOCHS)
    many = rows >= _FEW_ROWS
    return Settings(share, _BATCHES[many], epochs, _PATIENCE[many])


def default_base(task: str) -> str:
    """The base among the settings of a guessed recipe: that of the bundled recipe for its task."""
    return load_recipe(_SHIPPED[task]).recipe.model.name_or_path


def template_for(base: str) -> str:
    """The setting of the chat template, by the base: its own if it seems to have one, else a plain one."""
    folder = Path(base).expanduser()
    if not folder.is_dir():
        return "own" if _INSTRUCT.search(base) else "human-assistant"
    return "own" if stored_chat_template(folder) else "human-assistant"
