"""Every key has a role, and the sets of roles contain the keys that the commands expect."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import pytest
from pydantic import Field

from red_cli.recipe.keys_by_role import overrides_with_role, role_of
from red_cli.recipe.overrides import named_keys
from red_cli.recipe.roles import DATA, ROWS, SAME_GROUP, SAME_RUN, SHARED, TRAINED, Role
from red_cli.recipe.schema import Key, keys_of, recipe_keys
from red_cli.recipe.sections import Section


def without_role(keys: list[Key]) -> list[str]:
    """Keys without a role. A section needs none if all of its keys have one."""
    return [key.path for key in keys if key.role is None and not key.is_section]


def test_every_key_has_a_role() -> None:
    missing = without_role(list(recipe_keys().values()))
    assert not missing, f"give them a role, as in `seed: Annotated[int, Role.SEED]` (recipe/roles.py): {missing}"


def test_a_key_without_a_role_is_found() -> None:
    class Part(Section):
        plain: int = 1
        marked: Annotated[int, Role.SEED] = 1

    class Whole(Section):
        part: Part = Field(default_factory=Part)
        other: Annotated[Part, Role.TRAINING] = Field(default_factory=Part)

    keys = list(keys_of(Whole))
    assert without_role(keys) == ["part.plain"]
    roles = {key.path: key.role for key in keys}
    assert (roles["other.plain"], roles["other.marked"]) == (Role.TRAINING, Role.SEED)


def section(key: str) -> str:
    return key.partition(".")[0]


RECORDING = ("train.logging_steps", "train.save_steps", "train.save_total_limit", "train.report_to",
             "train.resume_from_checkpoint", "train.cache_prefix", "eval.untuned")  # fmt: skip
SOURCES = ("path", "name", "revision", "train", "validation", "test", "validation_share", "splits",
           "delimiter")  # fmt: skip
# a set of roles -> which keys are to have one of them
EXPECTED: dict[str, tuple[frozenset[Role], Callable[[str], bool]]] = {
    "settled by training": (
        TRAINED,
        lambda key: (
            section(key) in ("method", "red", "lora", "ia3", "train")
            or key in ("eval.max_rows", "eval.samples", "eval.untuned")
        ),
    ),
    "which rows are meant": (ROWS, lambda key: section(key) in ("data", "task") or key == "eval.split"),
    "the same run": (
        SAME_RUN,
        lambda key: (
            section(key) in ("output", "paper", "launch") or key in ("eval.metrics", "eval.samples", *RECORDING)
        ),
    ),
    "the same in a comparison": (
        SHARED,
        lambda key: (
            section(key) in ("method", "output", "task")
            or key in ("train.seed", "eval.metric", "eval.split", *(f"data.{name}" for name in SOURCES))
        ),
    ),
    "the same group": (
        SAME_GROUP,
        lambda key: key in ("train.seed", "train.micro_batch_size", "eval.metric", "eval.batch_size"),
    ),
    "data": (DATA, lambda key: section(key) == "data"),
}
LEAVES = [key.path for key in recipe_keys().values() if not key.is_section]


@pytest.mark.parametrize(("roles", "expected"), EXPECTED.values(), ids=EXPECTED.keys())
def test_keys_of_each_question(roles: frozenset[Role], expected: Callable[[str], bool]) -> None:
    assert [key for key in LEAVES if role_of(key) in roles] == [key for key in LEAVES if expected(key)]


@pytest.mark.parametrize("key", LEAVES)
def test_both_forms_name_the_same_key(key: str) -> None:
    mapping = "1"
    for part in reversed(key.split(".")[1:]):
        mapping = f"{{{part}: {mapping}}}"
    dotted, nested = f"{key}=1", f"{section(key)}={mapping}"
    assert [named.key for named in named_keys([dotted])] == [named.key for named in named_keys([nested])] == [key]
    for roles, _ in EXPECTED.values():
        assert bool(overrides_with_role([dotted], roles)) == bool(overrides_with_role([nested], roles))


def test_an_override_names_what_it_sets() -> None:
    named = named_keys(["train={seed: 7, bf16: true}", "eval={}", "data.splits={train: a}", "no override", "x=[1"])
    assert [name.key for name in named] == ["train.seed", "train.bf16", "data.splits.train"]
    assert role_of("data.splits.train") is Role.SOURCE
    assert [str(name) for name in named[:1]] == ["train.seed (train={seed: 7, bf16: true})"]
    assert [str(name) for name in named_keys(["train.seed=7"])] == ["train.seed=7"]
