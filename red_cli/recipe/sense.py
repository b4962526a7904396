"""Find values that are certainly mistakes, and keys that have no effect.

`mistakes` are refused before a run, but not in the recipe of an existing run, which stays readable.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from pathlib import Path

from red_cli.recipe.keys import key_at, values_of
from red_cli.recipe.methods import METHODS
from red_cli.recipe.roles import Role
from red_cli.recipe.schema import Recipe
from red_cli.recipe.sections import Decoding, KeyFault


def mistakes(recipe: Recipe) -> list[KeyFault]:
    """Values that are certainly mistakes: (key path, what is wrong)."""
    return [
        *_empty_texts(recipe),
        *_warmup(recipe),
        *_lengths_of_answers(recipe),
        *_columns(recipe),
        *recipe.task.mistakes(recipe.data),
    ]


def idle_keys(recipe: Recipe) -> list[KeyFault]:
    """Keys that are set but have no effect: (key path, why).

    These are not faults: a file may have options for several methods, and a recipe for a data set on the Hub may be
    used with a local copy.
    """
    return [*_options_of_other_methods(recipe), *_names_on_the_hub(recipe), *_others(recipe)]


def _empty_texts(recipe: Recipe) -> Iterator[KeyFault]:
    for key, value in values_of(recipe, frozenset(Role)).items():
        known = key_at(key)
        if isinstance(value, str) and not value.strip() and not (known and known.may_be_empty):
            yield tuple(key.split(".")), "is empty; set a value, or remove the key"


def _warmup(recipe: Recipe) -> Iterator[KeyFault]:
    train = recipe.train
    if train.warmup_steps is not None and train.max_steps is not None and train.warmup_steps > train.max_steps:
        what = (
            f"{train.warmup_steps:,} warm-up steps exceed the steps of the run (train.max_steps: {train.max_steps:,})"
        )
        yield ("train", "warmup_steps"), what
    if train.lr_scheduler_type == "constant":
        for key in ("warmup_ratio", "warmup_steps"):
            if getattr(train, key):
                what = "lr_scheduler_type constant has no warm-up; use constant_with_warmup, or remove this key"
                yield ("train", key), what


def _lengths_of_answers(recipe: Recipe) -> Iterator[KeyFault]:
    decoding = recipe.eval.generation
    if decoding is None:
        return
    most, what = decoding.max_new_tokens, "max_new_tokens"
    if most is None:
        most, what = recipe.task.default_new_tokens, "the default of max_new_tokens"
    if most is not None and decoding.min_new_tokens > most:
        yield ("eval", "generation", "min_new_tokens"), f"{decoding.min_new_tokens} is above {what} ({most})"


def _columns(recipe: Recipe) -> Iterator[KeyFault]:
    """Columns that two parts of a row are read from."""
    names = {part: name for part, name in recipe.task.columns_read(recipe.data.columns).items() if name is not None}
    for first, second in combinations(names, 2):
        if names[first] == names[second]:
            given = next(part for part in (first, second) if getattr(recipe.data.columns, part) is not None)
            other = second if given == first else first
            yield ("data", "columns", given), f"{names[given]!r} is also the column of the {other}"


def _options_of_other_methods(recipe: Recipe) -> Iterator[KeyFault]:
    for method in METHODS:
        options = recipe.options_of(method)
        if options is None or method == recipe.method:
            continue
        plain = type(options)().model_dump()
        changed: list[tuple[str, ...]] = [
            (method, key) for key, value in options.model_dump().items() if value != plain[key]
        ]
        if not changed and type(recipe).model_fields[method].default is None:  # set, if only to defaults
            changed.append((method,))
        for path in changed:
            yield path, f"has no effect: the method is {recipe.method}"


def _names_on_the_hub(recipe: Recipe) -> Iterator[KeyFault]:
    data, model = recipe.data, recipe.model
    if data.train is not None or (data.path is not None and _is_local(data.path)):
        for key in ("name", "revision", "splits"):
            if getattr(data, key) is not None:
                yield ("data", key), "has no effect: the data are local files"
    if model.revision is not None and _is_local(model.name_or_path):
        yield ("model", "revision"), "has no effect: the base is a local folder"


def _others(recipe: Recipe) -> Iterator[KeyFault]:
    launch, data, task = recipe.launch, recipe.data, recipe.task
    for key, what in recipe.method_spec.unused(recipe.options):
        yield (recipe.method, key), what
    if launch.num_machines == 1 and launch.main_process_ip is not None:
        yield ("launch", "main_process_ip"), "has no effect on a single machine (launch.num_machines)"
    if None not in (data.max_length, data.max_prompt_length) and data.max_prompt_length >= data.max_length:  # type: ignore[operator]
        yield ("data", "max_prompt_length"), f"has no effect: data.max_length is {data.max_length}"
    reason = task.why_no_text(recipe.eval.metric)
    if reason is not None and recipe.eval.generation not in (None, Decoding()):
        yield ("eval", "generation"), f"has no effect: {reason}, so no text is generated"


def _is_local(path: str) -> bool:
    try:
        return Path(path).exists()
    except (OSError, ValueError):
        return False
