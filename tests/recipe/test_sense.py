"""Values that mean nothing: refused where they can only be a mistake, else noted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from red_cli.errors import UserError
from red_cli.plan.schedule import require_schedule
from red_cli.recipe.find import find_recipe, recipe_names
from red_cli.recipe.load import load_recipe, load_trained_recipe, variants_of
from red_cli.recipe.schema import resolved
from red_cli.recipe.yaml_file import dump

TASKS = {
    "labels": "{name: classification}",
    "text to text": "{name: classification, text_to_text: true}",
    "generation": "{name: generation}",
    "instruction": "{name: instruction}",
    "commonsense": "{name: commonsense}",
}


def write(folder: Path, task: str) -> str:
    """A recipe of nothing but what is required."""
    path = folder / "r.yaml"
    path.write_text(f"task: {TASKS[task]}\nmodel: {{name_or_path: org/model}}\ndata: {{path: org/data}}\n")
    return str(path)


# name -> (task, overrides, key, words of the message)
MISTAKES = {
    "longer to warm up than to train": (
        "labels", ["train.warmup_steps=9", "train.max_steps=8"], "train.warmup_steps", "9 steps to warm up are"
    ),
    "warm-up of a constant rate": (
        "labels", ["train.lr_scheduler_type=constant", "train.warmup_ratio=0.1"], "train.warmup_ratio",
        "constant does not warm up",
    ),
    "steps of it": (
        "labels", ["train.lr_scheduler_type=constant", "train.warmup_steps=1"], "train.warmup_steps",
        "take constant_with_warmup",
    ),
    "more at least than at most": (
        "generation", ["eval.generation={min_new_tokens: 9, max_new_tokens: 8}"], "eval.generation.min_new_tokens",
        "9 is above max_new_tokens (8)",
    ),
    "more at least than by default": (
        "instruction", ["eval.generation.min_new_tokens=129"], "eval.generation.min_new_tokens",
        "129 is above the default of max_new_tokens (128)",
    ),
    "the label as text": (
        "labels", ["data.columns={text: a, label: a}"], "data.columns.text",
        "'a' is the column of the label as well",
    ),
    "the default label as text": (
        "labels", ["data.columns.text=label"], "data.columns.text", "'label' is the column of the label as well"
    ),
    "the text as its pair": (
        "labels", ["data.columns={text: a, text_pair: a}"], "data.columns.text", "of the text_pair as well"
    ),
    "the label in the prompt": (
        "text to text", ["task.prompt_template='{text} {label}'"], "task.prompt_template", "the answer would be in the"
    ),
    "the prompt as completion": (
        "generation", ["data.columns.completion=prompt"], "data.columns.completion", "'prompt' is the column of the pro"
    ),
    "the instruction as output": (
        "instruction", ["data.columns={instruction: a, output: a}"], "data.columns.instruction", "of the output as well"
    ),
    "no folder": ("labels", ["output.dir=''"], "output.dir", "is empty; give a value, or leave the key out"),
    "blanks": ("labels", ["output.dir='  '"], "output.dir", "is empty"),
    "no data": ("labels", ["data.path=''"], "data.path", "is empty"),
    "no base": ("labels", ["model.name_or_path=''"], "model.name_or_path", "is empty"),
    "no column": ("labels", ["data.columns.text=''"], "data.columns.text", "is empty"),
    "no revision": ("labels", ["model.revision=''"], "model.revision", "is empty"),
    "no split": ("labels", ["data.splits={train: ''}"], "data.splits.train", "is empty"),
    "no checkpoint": ("labels", ["train.resume_from_checkpoint=''"], "train.resume_from_checkpoint", "is empty"),
    "no end": ("generation", ["task.end_token=''"], "task.end_token", "is empty"),
    # values that overflow further on
    "endless": ("labels", ["train.num_train_epochs=1e300"], "train.num_train_epochs", "equal to 1000000, got"),
    "patient": ("labels", ["launch.timeout=1e300"], "launch.timeout", "less than or equal to 10000000"),
    "large batches": ("labels", ["train.batch_size=1000000000000"], "train.batch_size", "equal to 1000000000"),
    "many columns": ("generation", ["task.prompt_template='" + "{a}" * 101 + "'"], "task.prompt_template", "at most"),
    "a long template": (
        "generation", ["task.completion_template='{a}" + "x" * 100_000 + "'"], "task.completion_template",
        "at most 100,000 characters",
    ),
    "no name of a file": ("instruction", ["task.template=" + "x" * 5000], "task.template", "there is no such file"),
    "a long pattern": ("labels", ["red.target_modules=" + "x" * 50_001], "red.target_modules", "at most 50,000"),
    "many repeats": ("labels", ["red.target_modules=a{99999999999}"], "red.target_modules", "too large"),
    "a deep pattern": ("labels", ["red.target_modules=" + "(" * 9_000], "red.target_modules", "recursion"),
    "a layer of many digits": ("labels", ['red.layers="0:' + "9" * 30 + '"'], "red.layers", "a range such as"),
}  # fmt: skip


@pytest.mark.parametrize(("task", "overrides", "key", "words"), MISTAKES.values(), ids=MISTAKES.keys())
def test_mistakes_are_refused(tmp_path: Path, task: str, overrides: list[str], key: str, words: str) -> None:
    with pytest.raises(UserError) as caught:
        load_recipe(write(tmp_path, task), None, overrides)
    told = [line for line in str(caught.value).splitlines() if f": {key}: " in line]
    assert told, str(caught.value)
    assert words in told[0]
    assert told[0].startswith("  command line, ")
    assert all(len(line) < 400 for line in str(caught.value).splitlines())


def test_a_mistake_in_a_file_has_its_line(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text("task: {name: classification}\nmodel: {name_or_path: x/y}\ndata: {path: x/y}\noutput: {dir: ''}\n")
    with pytest.raises(UserError, match=r"r\.yaml, line 4: output\.dir: is empty"):
        load_recipe(str(path))


# overrides that look like mistakes and are none
FINE = {
    "as many to warm up": ("labels", ["train.warmup_steps=8", "train.max_steps=8"]),
    "as many at least": ("generation", ["eval.generation={min_new_tokens: 8, max_new_tokens: 8}"]),
    "a constant rate": ("labels", ["train.lr_scheduler_type=constant"]),
    "another label": ("labels", ["data.columns={text: label, label: stars}"]),
    "the same column in both templates": (
        "generation", ["task={prompt_template: 'Copy {text}', completion_template: '{text}'}"]
    ),
    "the prompt as a template of the completion": (
        "generation", ["data.columns.prompt=completion", "task.completion_template='{completion} x'"]
    ),
    "an empty variable": ("instruction", ["task.template_variables={date: ''}"]),
    "an empty note": ("labels", ["paper={model: m, table: '1', score: 1, note: ''}"]),
}  # fmt: skip


@pytest.mark.parametrize(("task", "overrides"), FINE.values(), ids=FINE.keys())
def test_what_is_no_mistake(tmp_path: Path, task: str, overrides: list[str]) -> None:
    assert load_recipe(write(tmp_path, task), None, overrides).notes == ()


# name -> (task, overrides, key and words of the note)
IDLE = {
    "options of another method": ("labels", ["lora.rank=4"], "lora.rank: has no effect: the recipe"),
    "its default options": ("labels", ["lora={alpha: 16.0}"], "lora: has no effect: the recipe trains by method red"),
    "options of red": ("labels", ["method=lora", "red.layers='1:'"], "red.layers: has no effect"),
    "a configuration of local files": ("labels", ["data={path: /, name: x}"], "data.name: has no effect"),
    "a revision of single files": (
        "labels", ["data={path: null, train: x.csv, revision: main}"], "data.revision: has no effect"
    ),
    "splits of local files": ("labels", ["data={path: /, splits: {train: x}}"], "data.splits: has no effect"),
    "a revision of a folder": (
        "labels", ["model={name_or_path: /, revision: main}"], "model.revision: has no effect"
    ),
    "positions beside a pattern": (
        "labels", ["red={positions: [attn], target_modules: x}"], "red.positions: has no effect: red.target_mod"
    ),
    "the address of a single machine": (
        "labels", ["launch.main_process_ip=10.0.0.1"], "launch.main_process_ip: has no effect"
    ),
    "prompts that are cut before": (
        "instruction", ["data={max_length: 8, max_prompt_length: 8}"], "data.max_prompt_length: has no effect"
    ),
    "decoding of nothing": (
        "commonsense", ["task.scoring=likelihood", "eval.generation.num_beams=2"], "eval.generation: has no effect"
    ),
}  # fmt: skip


@pytest.mark.parametrize(("task", "overrides", "words"), IDLE.values(), ids=IDLE.keys())
def test_keys_without_effect_are_noted(tmp_path: Path, task: str, overrides: list[str], words: str) -> None:
    notes = load_recipe(write(tmp_path, task), None, overrides).notes
    assert len(notes) == 1
    assert notes[0].startswith(f"command line, {overrides[-1]}: {words}")


def test_recipes_that_come_along_have_no_idle_keys() -> None:
    for name in recipe_names():
        for variant in (None, *variants_of(find_recipe(name))):
            assert load_recipe(name, variant).notes == ()


def test_a_run_that_is_there_stays_readable(tmp_path: Path) -> None:
    """With values that no new run may have."""
    recipe = load_recipe(write(tmp_path, "labels"), None, ["train.max_steps=8"]).recipe
    data = resolved(recipe)
    data["train"] |= {"warmup_steps": 9, "warmup_ratio": 0.0}
    path = tmp_path / "recipe.yaml"
    path.write_text(dump(data))
    assert load_trained_recipe(path).recipe.train.warmup_steps == 9
    with pytest.raises(UserError, match="steps to warm up are more than the run has"):
        load_recipe(str(path))


def test_notes_of_a_plan(red, recipe: Path, tmp_path: Path) -> None:
    keys = ["train.max_steps=4", "train.eval_steps=9", "train.save_steps=5", "train.early_stopping_patience=1",
            "lora.rank=2"]  # fmt: skip
    expected = [
        "command line, lora.rank=2: lora.rank: has no effect: the recipe trains by method red",
        "train.eval_steps: 9 is never reached: the run has 4 steps",
        "train.save_steps: 5 is never reached: the run has 4 steps",
        "train.early_stopping_patience: 1 is never used up: the run evaluates 1 times",
    ]
    assert red("check", recipe, *keys, "--json").json["plan"]["notes"] == expected
    shown = " ".join(red("check", recipe, *keys).out.split())
    assert all(note in shown for note in expected)
    assert json.loads(red("check", recipe, "--json").out)["plan"]["notes"] == []


@pytest.mark.parametrize("command", ["check", "train"])
def test_more_steps_to_warm_up_than_the_data_give(red, recipe: Path, tmp_path: Path, command: str) -> None:
    recipe.write_text(recipe.read_text().replace("logging_steps: 1", "warmup_steps: 500"))
    outcome = red(command, recipe)
    assert outcome.code == 2
    assert "reviews.yaml, line 10: train.warmup_steps: 500 steps to warm up are more than the" in outcome.err
    assert not (tmp_path / "run").exists()


def test_more_steps_than_any_run_has(recipe: Path) -> None:
    loaded = load_recipe(str(recipe), None, ["train.num_train_epochs=1e6"])
    require_schedule(loaded, 10**9, 1000)
    with pytest.raises(UserError, match=r"train\.num_train_epochs: 1e\+06 passes over 10,000 steps are 10,000,000,000"):
        require_schedule(loaded, 10**10, 10_000)
