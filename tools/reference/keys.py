"""The page of recipe keys: a table for each section, each task and each method."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence

from pydantic import BaseModel

from red_cli.recipe.explain import KeyHelp, key_helps, task_key_helps
from red_cli.recipe.keys_by_role import role_of
from red_cli.recipe.methods import METHODS
from red_cli.recipe.roles import SAME_RUN
from red_cli.recipe.schema import Key, RecipeFile, keys_of, recipe_keys
from red_cli.recipe.tasks.registry import TASKS
from reference.markdown import block, code, codes, page, table, text

_MOST_IN_A_TYPE = 4  # choices; more stand after the meaning
_LISTED_ELSEWHERE = {"eval.metric": "[Metrics](metrics.md)", "eval.metrics": "[Metrics](metrics.md)"}  # many choices
_TITLES = {"eval": "Evaluation", "launch": "Devices", "paper": "The paper's figures", "train": "Training"}
_HEADINGS = ("key", "type", "default", "since", "meaning")
_INTRODUCTION = """\
A recipe is a YAML file with these keys. Any key can also be set on the command line, as `KEY=VALUE`:
"""
_AFTER = """\
`red keys` shows the same in a terminal: `red keys train`, `red keys lora_r`, `red keys 'data.max*'`. Unknown keys
and wrong types are refused, with the file, the line and the nearest valid name. In the tables, *required* marks a
key without a default, and `null` means that the key is not set. *since* is the version of red that introduced the
key.
"""


def make() -> str:
    """The text of the page."""
    helps, keys = key_helps(), recipe_keys()
    sections = [path for path, key in keys.items() if key.is_section and "." not in path]
    methods = [name for name, spec in METHODS.items() if spec.options is not None]
    others = [section for section in sections if section not in ("task", *methods)]
    parts = [
        _INTRODUCTION,
        block(["red train glue_rte train.seed=43 'train={batch_size: 16, max_steps: 100}'"]),
        _AFTER,
        "## Task: `task`",
        "`task.name` chooses the task. Each task has its own further keys.",
        _table([helps["task.name"]], keys),
        *(part for kind in TASKS for part in _task(kind)),
        "## Method: `method`",
        _table([helps["method"]], keys),
        _methods(),
        *(part for method in methods for part in _method(method)),
        *(part for section in others for part in _section(section)),
        "## Keys of a recipe file: `extends`, `variants`",
        "These keys belong to a recipe file and not to the recipe that it resolves to.",
        _table_of_file(keys),
        "## Keys that may change when a run resumes",
        "A run resumes only with the recipe that it was started with. These keys are the exception: "
        "they do not change what is trained.",
        _list_of_keys(keys),
    ]
    return page("Recipe keys", *parts)


def _task(kind: type[BaseModel]) -> Iterable[str]:
    """The heading, the meaning and the table of a task."""
    name = kind.model_fields["name"].annotation.__args__[0]  # type: ignore[union-attr]
    keys = {f"task.{key.path}": key for key in keys_of(kind)}
    since = keys["task.name"].since
    yield f"### {code(name)}"
    yield f"{text(_first_line(kind))} Since {since}."
    helps = [found for path, found in task_key_helps(name).items() if path != "task.name"]
    if helps:
        yield _table(helps, keys)


def _methods() -> str:
    """The table of methods."""
    rows = [
        (code(name), spec.title, text(spec.what_trains), code(f"red-finetune[{spec.extra}]") if spec.extra else "")
        for name, spec in METHODS.items()
    ]
    return table(("method", "name", "what trains, with the head", "needs"), rows)


def _method(name: str) -> Iterable[str]:
    """The heading, the meaning and the table of the options of a method."""
    spec = METHODS[name]  # type: ignore[index]
    yield f"### {code(name)}"
    yield f"Options of `method: {name}`, {spec.title}."
    yield _table(_inside(name), recipe_keys())


def _section(name: str) -> Iterable[str]:
    """The heading, the meaning and the tables of a section of the recipe, and of the sections inside it."""
    helps = key_helps()
    yield f"## {_title(name)}: {code(name)}"
    yield text(helps[name].description)
    yield _table(_inside(name), recipe_keys())
    for path, key in recipe_keys().items():
        if key.is_section and path.startswith(f"{name}."):
            yield f"### {code(path)}"
            yield text(helps[path].description)
            yield _table(_inside(path), recipe_keys())


def _title(section: str) -> str:
    """The heading of a section in words."""
    return _TITLES.get(section, section.capitalize())


def _inside(section: str) -> list[KeyHelp]:
    """The keys of a section that hold values, without those of the sections inside it."""
    keys = recipe_keys()
    return [
        found for path, found in key_helps().items() if path.rpartition(".")[0] == section and not keys[path].is_section
    ]


def _table(helps: Iterable[KeyHelp], keys: dict[str, Key]) -> str:
    """The table of keys: type, default, version and meaning."""
    return table(_HEADINGS, (_row(found, keys[found.key].since) for found in helps))


def _row(found: KeyHelp, since: str) -> tuple[str, ...]:
    """The cells of a key."""
    boolean = ("true", "false") if "true or false" in found.type else ()
    choices = [choice for choice in found.choices if choice not in boolean]
    kind = _plural(found.type.removesuffix(" or null"))
    meaning = _description(found.description)
    if boolean:
        kind = kind.replace("true or false", _one_of([*boolean, *choices]))
    elif choices and len(choices) <= _MOST_IN_A_TYPE:
        kind = _with_choices(kind, _one_of(choices))
    elif found.key in _LISTED_ELSEWHERE:
        meaning = f"{meaning} Choices: {_LISTED_ELSEWHERE[found.key]}."
    elif choices:
        meaning = f"{meaning} Choices: {codes(choices)}."
    default = "*required*" if found.default is None else code(found.default)
    return code(found.key), kind, default, since, meaning


def _plural(kind: str) -> str:
    """A type in words, what a list holds in the plural."""
    for words in ("whole number", "text"):
        kind = kind.replace(f"list of {words}", f"list of {words}s")
    return kind


def _one_of(choices: Sequence[str]) -> str:
    """Choices in words."""
    return code(choices[0]) if len(choices) == 1 else f"{codes(choices[:-1])} or {code(choices[-1])}"


def _with_choices(kind: str, listed: str) -> str:
    """A type with its choices in the place of a word for them."""
    for words in ("one of its choices", "choices"):
        if words in kind:
            return kind.replace(words, listed)
    return f"{kind} or {listed}"


def _description(plain: str) -> str:
    """The meaning of a key, the keys and file names in it as code."""
    known = {*recipe_keys(), *(path.rpartition(".")[2] for path in recipe_keys())}
    return re.sub(r"(?<![\w.])[a-z_]+(?:\.[a-z_]+)*(?!\w)", lambda match: _known(match[0], known), text(plain))


def _known(words: str, known: Collection[str]) -> str:
    """A word as code if it is a key, or the last part of one that is no plain word."""
    return code(words) if words in known and ("." in words or "_" in words) else words


def _first_line(kind: type[BaseModel]) -> str:
    """The first line of the docstring of a section, as a sentence."""
    return (kind.__doc__ or "").strip().split("\n\n")[0].removesuffix(".").replace("->", "→") + "."


def _table_of_file(keys: dict[str, Key]) -> str:
    """The table of the keys that only recipe files have."""
    own = {key.path: key for key in keys_of(RecipeFile) if key.path not in keys}
    fields = RecipeFile.model_fields
    return table(("key", "meaning"), ((code(name), _description(str(fields[name].description))) for name in own))


def _list_of_keys(keys: dict[str, Key]) -> str:
    """The keys that do not change the result of training; a section stands for all of its keys."""
    sections = [path for path, key in keys.items() if key.is_section and role_of(path) in SAME_RUN]
    single = [path for path, key in keys.items() if not key.is_section and key.role in SAME_RUN]
    single = [path for path in single if path.partition(".")[0] not in sections]
    every = f", and every key of {codes(sections)}" if sections else ""
    return f"{codes(single)}{every}."
