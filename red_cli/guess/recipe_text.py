"""The text of a guessed recipe, with a comment on every guess."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from red_cli.errors import one_line
from red_cli.guess.settings import Settings
from red_cli.guess.task import LABEL_TASKS, TaskGuess
from red_cli.recipe.yaml_file import dump_flow

_WIDTH = 32  # of a key with its value, before its comment

_Section = dict[str, tuple[Any, str]]  # key -> value and comment


@dataclass(frozen=True)
class Draft:
    """What a recipe is written from.

    Attributes:
        file, recipe: the names of the data file and of the recipe.
        data: the keys of the data section except the columns, in order, each with its comment.
        base_given: whether the user named the base.
        given: further keys of the sections task, model and data that the user has set.
    """

    file: str
    recipe: str
    guess: TaskGuess
    settings: Settings
    base: str
    base_given: bool
    template: str
    data: Mapping[str, tuple[Any, str]]
    given: Mapping[str, Mapping[str, Any]]


def recipe_text(draft: Draft) -> str:
    """The recipe as YAML with comments."""
    parts = [_head(draft)]
    for name, keys in _sections(draft).items():
        given = draft.given.get(name, {})
        written = {key: value for key, value in keys.items() if key not in given}
        written |= {key: (value, "as given") for key, value in given.items()}
        lines = [_line(key, value, comment, indent=2) for key, (value, comment) in written.items()]
        parts.append("\n".join([f"{name}:", *lines, *(_columns(draft) if name == "data" else [])]))
    if draft.guess.task not in LABEL_TASKS:
        parts.append("eval:\n  generation:\n" + _line("max_new_tokens", 128, "of an answer", indent=4))
    return "\n\n".join(parts) + "\n"


def _sections(draft: Draft) -> dict[str, _Section]:
    """The sections of the recipe but eval and the columns."""
    settings, task = draft.settings, draft.guess.task
    of_task: _Section = {"name": (task, draft.guess.reasons["task"])}
    data = dict(draft.data)
    if task == "instruction":
        of_task["template"] = (draft.template, "own (the base's), alpaca, human-assistant, or a Jinja file")
        data["too_long"] = ("drop", "leave longer conversations out, and count them; cut: they lose their end")
    base = "a name on the Hub, or a model folder"
    usual = "relative to the spread of each module's output, so that it fits any base; or a number"
    train: _Section = {
        "learning_rate": ("auto", usual),
        "num_train_epochs": (settings.epochs, "the best evaluation is kept, one after each epoch"),
        "batch_size": (settings.batch_size, "rows per step, however many fit at once"),
        "warmup_ratio": (0.06, ""),
    }
    if task in LABEL_TASKS:
        train["early_stopping_patience"] = (settings.patience, "evaluations without improvement")
    return {
        "task": of_task,
        "model": {"name_or_path": (draft.base, base if draft.base_given else f"the default for this task; {base}")},
        "red": {"positions": (["ffn"], "the output of each FFN")},
        "data": data,
        "train": {**train, "seed": (42, "")},
    }


def _columns(draft: Draft) -> list[str]:
    """The lines of the columns, with the reason for each; a part that has a template has no column."""
    lines = []
    if draft.guess.task not in LABEL_TASKS:
        lines.append("  # max_length: 1024              # tokens of a row; the most that the base takes if absent")
    templates = {f"{key.removesuffix('_template')}" for key in draft.given.get("task", {}) if key.endswith("_template")}
    templates |= {"text", "text_pair"} if "prompt" in templates else set()
    columns = {key: column for key, column in draft.guess.columns.items() if key not in templates}
    lines += ["  columns:"] if columns else []
    return lines + [_line(key, column, draft.guess.reasons.get(key, ""), indent=4) for key, column in columns.items()]


def _head(draft: Draft) -> str:
    """The comment at the top: where the recipe comes from, and how it is used."""
    name = one_line(draft.recipe)
    return (
        f"# {one_line(draft.file)}, as red read it. Change what is wrong: this file is used from now on.\n#\n"
        f"#   red check {name}   shows the plan and some rows\n#   red train {name}   trains\n"
        "#   red recipes show "
        + ("classification" if draft.guess.task in LABEL_TASKS else draft.guess.task)
        + "   has more keys, with comments"
    )


def _line(key: str, value: Any, comment: str, indent: int) -> str:
    """A key with its value and its comment."""
    text = f"{' ' * indent}{key}: {_written(value)}"
    return f"{text:<{_WIDTH}}  # {one_line(comment, 120)}" if comment else text


def _written(value: Any) -> str:
    """A value as YAML on one line."""
    if isinstance(value, float) and 0 < value < 0.01:
        mantissa, exponent = f"{value:.1e}".split("e")
        return f"{mantissa}e{int(exponent)}"
    if isinstance(value, str) and not value.isprintable():
        return json.dumps(value)  # which is YAML too, on one line
    return dump_flow(value)
