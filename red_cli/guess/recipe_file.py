"""Write the guessed recipe of a data file next to it, or find the one that is there and still fits."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

from red_cli.base_model.hub import require_model_folder
from red_cli.errors import UserError, shown
from red_cli.files import replacing
from red_cli.guess.data_section import data_section, file_text
from red_cli.guess.recipe_text import Draft, recipe_text
from red_cli.guess.settings import default_base, settings_for, template_for
from red_cli.guess.siblings import SiblingFiles, split_files_around
from red_cli.guess.task import Given, TaskGuess, guess_task
from red_cli.recipe.load import load_recipe, load_recorded_recipe
from red_cli.recipe.overrides import InvalidOverride, named_keys, parse_override
from red_cli.recipe.sections import Columns, Data
from red_cli.recipe.sources import MergedSources, resolve_paths
from red_cli.tasks.data.file_columns import require_columns
from red_cli.tasks.data.read_splits import find_splits
from red_cli.tasks.data.rows import Rows
from red_cli.tasks.labels.classes import classes_in_words, is_blank

_KEPT = ("task", "model", "data")  # sections whose overrides become part of the recipe
_SHOWN_CLASSES = 5
_ANY = "classification"  # a bundled recipe


@dataclass(frozen=True)
class RecipeOfFile:
    """The recipe of a data file.

    Attributes:
        lines: what was guessed or found, as rows of label and value.
        reused: whether the recipe was there already.
    """

    path: Path
    lines: tuple[tuple[str, str], ...]
    reused: bool


def recipe_of_file(path: Path, overrides: Sequence[str]) -> RecipeOfFile:
    """The recipe of a data file: the one next to it if it fits, else a new one.

    Overrides of the sections task, model and data become part of a new recipe. Where the file's folder cannot be
    written to, the recipe stands in the working directory.

    Raises:
        UserError: the file cannot be read, no task can be guessed, or an override is wrong.
    """
    files = split_files_around(path)
    others: list[tuple[str, str]] = []
    for number in count(1):
        target = files.recipe(number)
        if not os.path.lexists(target):
            break
        reason = _why_unfit(target, path)
        if reason is None:
            return RecipeOfFile(target, (("recipe", f"{target}, as it is; delete it for a new guess"),), reused=True)
        others.append(("recipe", f"{target} is left alone: {reason}"))
    guessed = _write(target, files, overrides)
    return RecipeOfFile(target, (*guessed, *others, ("recipe", f"{target}, written now; change what is wrong")), False)


def _why_unfit(recipe: Path, path: Path) -> str | None:
    """Why a YAML file is no recipe for a data file; None if it is one."""
    try:
        loaded = load_recorded_recipe(recipe).recipe  # reads no variables: it may come from elsewhere, with the file
        with_variables = load_recipe(str(recipe)).recipe
    except UserError as error:
        return f"it is no recipe, or has faults: {error.message.strip().splitlines()[0]}"
    if loaded.model.trust_remote_code:
        return f"it lets code of its model run; if you trust it, name it: {recipe}"
    if loaded != with_variables:
        return f"it has environment variables; if you trust it, name it: {recipe}"
    data, task = loaded.data, loaded.task
    if path.resolve() not in {Path(name).resolve() for name in (data.train, data.path) if name is not None}:
        return f"it is a recipe for {data.train or data.path}"
    try:
        require_columns([path], data, [*task.input_columns(data.columns), *task.answer_columns(data.columns)])
    except UserError as error:
        return error.message
    return None


def _given(overrides: Sequence[str]) -> dict[str, dict[str, Any]]:
    """What overrides set in the sections that the guessed recipe file keeps; invalid ones are skipped."""
    merged = MergedSources()
    for text in overrides:
        try:
            nested = parse_override(text).nested
        except InvalidOverride:
            continue
        resolve_paths(nested, Path.cwd(), os.environ)  # loading reports what is wrong
        merged.merge(nested, lambda key: "")
    return {name: merged.data[name] if isinstance(merged.data.get(name), dict) else {} for name in _KEPT}


def _write(target: Path, files: SiblingFiles, overrides: Sequence[str]) -> list[tuple[str, str]]:
    """Guess, and write the recipe; return what was guessed."""
    given = _given(overrides)
    own, path = given["data"], files.train
    delimiter = own.get("delimiter")
    written = [named.text for named in named_keys(overrides) if named.key == "data.delimiter"]
    load_recipe(_ANY, None, written)  # raises if it is no delimiter
    reading = Data.model_validate({"train": str(path)} | ({"delimiter": delimiter} if delimiter is not None else {}))
    rows = find_splits(reading, "label")["train"]()
    columns = own.get("columns") if isinstance(own.get("columns"), dict) else {}
    named = {
        key: str(name) for key, name in (columns or {}).items() if name is not None and key in Columns.model_fields
    }
    guess = guess_task(rows, Given(given["task"].get("name"), named))
    settings = settings_for(guess.task, rows.table.num_rows)
    base = given["model"].get("name_or_path")
    chosen = str(base or default_base(guess.task))
    classes = _classes(rows, guess)
    section = data_section(target, files, rows, guess, settings.share, own)
    draft = Draft(
        file=path.name,
        recipe=target.name,
        guess=guess,
        settings=settings,
        base=chosen,
        base_given=base is not None,
        template=template_for(chosen),
        data=section.keys,
        given={},
    )
    extra = {
        "task": {key: value for key, value in given["task"].items() if key != "name"},
        "model": {key: value for key, value in given["model"].items() if key != "name_or_path"},
        "data": {key: value for key, value in own.items() if key != "columns"},
    }
    templates = {key: value for key, value in extra["task"].items() if key.endswith("_template")}
    with replacing(target) as temporary:
        temporary.write_text(recipe_text(replace(draft, given={"task": templates})), encoding="utf-8")
        loaded = load_recipe(str(temporary), None, overrides)  # raises for faults of overrides, by their own names
        require_model_folder(loaded.recipe.model.name_or_path)
        temporary.write_text(recipe_text(replace(draft, given=extra)), encoding="utf-8")
        load_recipe(str(temporary))
    return [
        ("file", file_text(path, rows, delimiter)),
        ("task", f"{guess.task}: {guess.reasons['task']}"),
        *(
            (key, f"{shown(name)[1:-1]}, {guess.reasons.get(key, 'by its name')}")
            for key, name in guess.columns.items()
        ),
        *([("classes", classes_in_words(classes, _SHOWN_CLASSES))] if classes else []),
        *section.lines,
        ("base", chosen if base is not None else f"{chosen}, the default; another: model.name_or_path=…"),
    ]


def _classes(rows: Rows, guess: TaskGuess) -> dict[str, int]:
    """Label -> number of rows, the largest first, for the guessed recipe file; empty for numbers and texts."""
    if guess.task != "classification":
        return {}
    counts = Counter(str(value) for value in rows.column(guess.columns["label"]) if not is_blank(value))
    return dict(counts.most_common())
