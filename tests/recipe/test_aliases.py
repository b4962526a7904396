"""The table of aliases: every right name exists, and no alias hides a name of red's own."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

import pytest
from typer.main import get_command

from red_cli.cli import app
from red_cli.commands.examples import EXAMPLES
from red_cli.commands.usage_errors import commands_for
from red_cli.recipe.aliases import COMMANDS, KEYS, OPTIONS, alias_of, plain_name
from red_cli.recipe.explain import key_helps, keys_to_explain
from red_cli.recipe.schema import recipe_keys

COMMAND_NAMES = set(get_command(app).commands)


def options_of(command: object) -> Iterator[str]:
    for param in getattr(command, "params", []):
        yield from (*param.opts, *param.secondary_opts)


@pytest.mark.parametrize("name", KEYS)
def test_the_right_keys_exist(name: str) -> None:
    assert name == plain_name(name)
    assert name not in key_helps() or recipe_keys()[name].is_section
    for key in KEYS[name].keys:
        path, _, value = key.partition("=")
        assert not recipe_keys()[path].is_section
        assert not value or value in key_helps()[path].choices
    assert KEYS[name].keys or KEYS[name].note


def test_the_right_commands_and_options_exist() -> None:
    named = {command for commands in COMMANDS.values() for command in commands}
    for command in named:
        name, *arguments = shlex.split(command)[1:]
        assert name in COMMAND_NAMES | {"--help", "--version"}
        if name in COMMAND_NAMES:
            known = set(options_of(get_command(app).commands[name]))
            assert {argument for argument in arguments if argument.startswith("-")} <= known
    assert not COMMANDS.keys() & COMMAND_NAMES
    assert all(commands_for(name, COMMAND_NAMES) for name in COMMANDS)
    everywhere = {option for command in get_command(app).commands.values() for option in options_of(command)}
    assert set(OPTIONS.values()) <= everywhere


# the names that people bring, as their toolkits write them -> the key
BROUGHT = {
    "--learning_rate": None, "per_device_train_batch_size": "train.batch_size",
    "train.epochs": "train.num_train_epochs",
    "gradient_accumulation_steps": "train.micro_batch_size", "lora_r": "lora.rank", "lora.lora_alpha": "lora.alpha",
    "LoRA-Rank": "lora.rank", "target_modules": "red.positions", "base_model": "model.name_or_path",
    "model_name_or_path": "model.name_or_path", "datasets": "data.path", "cutoff_len": "data.max_length",
    "sequence_len": "data.max_length", "max_seq_length": "data.max_length", "output_dir": "output.dir",
    "val_set_size": "data.validation_share", "eval_strategy": "train.eval_steps", "fp16": "train.bf16=true",
    "micro_batch_size": None, "optim": None,
    "max_eval_samples": "eval.max_rows", "class_weight": "train.class_weights", "class_weights": "train.class_weights",
    "adapter_name_or_path": "train.init_from", "init_from": "train.init_from", "resume_adapter": "train.init_from",
    "label_smoothing_factor": None,
}  # fmt: skip


@pytest.mark.parametrize(("name", "key"), BROUGHT.items())
def test_what_people_bring(name: str, key: str | None) -> None:
    alias = alias_of(name)
    assert (alias.keys[0] if alias and alias.keys else None) == key


@pytest.mark.parametrize("command", sorted(COMMAND_NAMES))
def test_examples_of_a_command_parse(red, command: str) -> None:
    assert 2 <= len(EXAMPLES[command]) <= 3
    shown = red(command, "--help").out
    for example in EXAMPLES[command]:
        assert len(example) <= 78
        assert example in shown
        program, name, *arguments = shlex.split(example.partition(" > ")[0])
        assert (program, name) == ("red", command)
        get_command(app).commands[name].make_context(name, arguments)
        for argument in arguments:
            key, equals, _ = argument.partition("=")
            assert not equals or key.rpartition(":")[2] in recipe_keys()


def test_every_key_is_described() -> None:
    assert not [path for path, found in key_helps().items() if not found.description]


# pattern -> the keys that it finds
PATTERNS = {
    "train.seed": ["train.seed"], "learning_rate": ["train.learning_rate"], "lora_r": ["lora.rank"],
    "data.max*": ["data.max_prompt_length", "data.max_train_rows", "data.max_length"], "nothing_of_it": [],
    "output": ["output", "output.dir"], "gradient's norm": ["train.max_grad_norm"],
}  # fmt: skip


@pytest.mark.parametrize(("pattern", "keys"), PATTERNS.items())
def test_keys_are_found(pattern: str, keys: list[str]) -> None:
    assert [found.key for found in keys_to_explain(pattern)] == keys


def test_a_key_is_explained(red) -> None:
    [key] = red("keys", "train.lr_scheduler_type", "--json").json["keys"]
    assert key["default"] == "linear"
    assert {"linear", "cosine"} < set(key["choices"])
    [key] = red("keys", "learning_rate", "--json").json["keys"]
    assert (key["key"], key["type"], key["choices"]) == ("train.learning_rate", "number above 0", ["auto"])
    assert len(red("keys", "--json").json["keys"]) == len(recipe_keys())
    listed = red("keys").out
    assert all(path in listed for path in recipe_keys())
