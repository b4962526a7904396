"""Values that are certainly mistakes are refused; keys without effect are noted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from red_cli.errors import UserError
from red_cli.plan.schedule import require_schedule
from red_cli.recipe.bundled_recipes import find_recipe, recipe_names
from red_cli.recipe.load import load_recipe, load_recorded_recipe, loadable_variants
from red_cli.recipe.schema import resolved
from red_cli.recipe.yaml_file import dump
from tests.failures import codes, fault_at

TASKS = {
    "labels": "{name: classification}",
    "text to text": "{name: classification, text_to_text: true}",
    "generation": "{name: generation}",
    "instruction": "{name: instruction}",
    "commonsense": "{name: commonsense}",
}


def write(folder: Path, task: str) -> str:
    """A recipe with the required keys only."""
    path = folder / "r.yaml"
    path.write_text(f"task: {TASKS[task]}\nmodel: {{name_or_path: org/model}}\ndata: {{path: org/data}}\n")
    return str(path)


# name -> (task, overrides, key, what the message contains)
MISTAKES = {
    "longer to warm up than to train": (
        "labels", ["train.warmup_steps=9", "train.max_steps=8"], "train.warmup_steps", ["9", "train.max_steps: 8"]
    ),
    "warm-up of a constant rate": (
        "labels", ["train.lr_scheduler_type=constant", "train.warmup_ratio=0.1"], "train.warmup_ratio",
        ["constant_with_warmup"],
    ),
    "steps of it": (
        "labels", ["train.lr_scheduler_type=constant", "train.warmup_steps=1"], "train.warmup_steps",
        ["constant_with_warmup"],
    ),
    "more at least than at most": (
        "generation", ["eval.generation={min_new_tokens: 9, max_new_tokens: 8}"], "eval.generation.min_new_tokens",
        ["9", "max_new_tokens (8)"],
    ),
    "more at least than by default": (
        "instruction", ["eval.generation.min_new_tokens=129"], "eval.generation.min_new_tokens",
        ["129", "max_new_tokens (128)"],
    ),
    "the label as text": (
        "labels", ["data.columns={text: a, label: a}"], "data.columns.text", ["'a'", "the label"]
    ),
    "the default label as text": ("labels", ["data.columns.text=label"], "data.columns.text", ["'label'"]),
    "the text as its pair": (
        "labels", ["data.columns={text: a, text_pair: a}"], "data.columns.text", ["'a'", "the text_pair"]
    ),
    "the label in the prompt": (
        "text to text", ["task.prompt_template='{text} {label}'"], "task.prompt_template", ["'label'"]
    ),
    "the prompt as completion": (
        "generation", ["data.columns.completion=prompt"], "data.columns.completion", ["'prompt'"]
    ),
    "the instruction as output": (
        "instruction", ["data.columns={instruction: a, output: a}"], "data.columns.instruction", ["'a'", "the output"]
    ),
    "no folder": ("labels", ["output.dir=''"], "output.dir", []),
    "blanks": ("labels", ["output.dir='  '"], "output.dir", []),
    "no data": ("labels", ["data.path=''"], "data.path", []),
    "no base": ("labels", ["model.name_or_path=''"], "model.name_or_path", []),
    "no column": ("labels", ["data.columns.text=''"], "data.columns.text", []),
    "no revision": ("labels", ["model.revision=''"], "model.revision", []),
    "no split": ("labels", ["data.splits={train: ''}"], "data.splits.train", []),
    "no checkpoint": ("labels", ["train.resume_from_checkpoint=''"], "train.resume_from_checkpoint", []),
    "no end": ("generation", ["task.end_token=''"], "task.end_token", []),
    # values that overflow later
    "endless": ("labels", ["train.num_train_epochs=1e300"], "train.num_train_epochs", ["1000000", "1e+300"]),
    "patient": ("labels", ["launch.timeout=1e300"], "launch.timeout", ["10000000"]),
    "large batches": ("labels", ["train.batch_size=1000000000000"], "train.batch_size", ["1000000000"]),
    "many columns": ("generation", ["task.prompt_template='" + "{a}" * 101 + "'"], "task.prompt_template", ["100 "]),
    "a long template": (
        "generation", ["task.completion_template='{a}" + "x" * 100_000 + "'"], "task.completion_template", ["100,000"]
    ),
    "no name of a file": ("instruction", ["task.template=" + "x" * 5000], "task.template", ["own, alpaca"]),
    "a long pattern": ("labels", ["red.target_modules=" + "x" * 50_001], "red.target_modules", ["50,000"]),
    "many repeats": ("labels", ["red.target_modules=a{99999999999}"], "red.target_modules", ["too large"]),
    "a deep pattern": ("labels", ["red.target_modules=" + "(" * 9_000], "red.target_modules", ["recursion"]),
    "a layer of many digits": ("labels", ['red.layers="0:' + "9" * 30 + '"'], "red.layers", ['"2:6"']),
}  # fmt: skip


@pytest.mark.parametrize(("task", "overrides", "key", "facts"), MISTAKES.values(), ids=MISTAKES.keys())
def test_mistakes_are_refused(tmp_path: Path, task: str, overrides: list[str], key: str, facts: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        load_recipe(write(tmp_path, task), None, overrides)
    fault = fault_at(caught.value, key)
    assert fault["code"] == "invalid-value"
    assert all(fact in fault["message"] for fact in facts), fault["message"]
    assert fault["where"].startswith("command line, ")
    assert all(len(line) < 400 for line in str(caught.value).splitlines())


def test_a_mistake_in_a_file_has_its_line(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text("task: {name: classification}\nmodel: {name_or_path: x/y}\ndata: {path: x/y}\noutput: {dir: ''}\n")
    with pytest.raises(UserError, match=r"r\.yaml, line 4: output\.dir: "):
        load_recipe(str(path))


# overrides that look like mistakes but are not
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
def test_these_are_not_mistakes(tmp_path: Path, task: str, overrides: list[str]) -> None:
    assert load_recipe(write(tmp_path, task), None, overrides).notes == ()


# name -> (task, overrides, key)
IDLE = {
    "options of another method": ("labels", ["lora.rank=4"], "lora.rank"),
    "its default options": ("labels", ["lora={alpha: 16.0}"], "lora"),
    "options of red": ("labels", ["method=lora", "red.layers='1:'"], "red.layers"),
    "a configuration of local files": ("labels", ["data={path: /, name: x}"], "data.name"),
    "a revision of single files": ("labels", ["data={path: null, train: x.csv, revision: main}"], "data.revision"),
    "splits of local files": ("labels", ["data={path: /, splits: {train: x}}"], "data.splits"),
    "a revision of a folder": ("labels", ["model={name_or_path: /, revision: main}"], "model.revision"),
    "positions and a pattern": ("labels", ["red={positions: [attn], target_modules: x}"], "red.positions"),
    "the address of a single machine": ("labels", ["launch.main_process_ip=10.0.0.1"], "launch.main_process_ip"),
    "prompts that are cut before": (
        "instruction", ["data={max_length: 8, max_prompt_length: 8}"], "data.max_prompt_length"
    ),
    "decoding of nothing": (
        "commonsense", ["task.scoring=likelihood", "eval.generation.num_beams=2"], "eval.generation"
    ),
}  # fmt: skip


@pytest.mark.parametrize(("task", "overrides", "key"), IDLE.values(), ids=IDLE.keys())
def test_keys_without_effect_are_noted(tmp_path: Path, task: str, overrides: list[str], key: str) -> None:
    notes = load_recipe(write(tmp_path, task), None, overrides).notes
    assert len(notes) == 1
    assert notes[0].startswith(f"command line, {overrides[-1]}: {key}: has no effect")


def test_bundled_recipes_have_no_idle_keys() -> None:
    for name in recipe_names():
        for variant in (None, *loadable_variants(find_recipe(name))):
            assert load_recipe(name, variant).notes == ()


def test_an_existing_run_stays_readable(tmp_path: Path) -> None:
    """Even with values that are refused in new runs."""
    recipe = load_recipe(write(tmp_path, "labels"), None, ["train.max_steps=8"]).recipe
    data = resolved(recipe)
    data["train"] |= {"warmup_steps": 9, "warmup_ratio": 0.0}
    path = tmp_path / "recipe.yaml"
    path.write_text(dump(data))
    assert load_recorded_recipe(path).recipe.train.warmup_steps == 9
    with pytest.raises(UserError) as caught:
        load_recipe(str(path))
    assert fault_at(caught.value, "train.warmup_steps")["code"] == "invalid-value"


def test_notes_of_a_plan(red, recipe: Path, tmp_path: Path) -> None:
    keys = ["train.max_steps=4", "train.eval_steps=9", "train.save_steps=5", "train.early_stopping_patience=1",
            "lora.rank=2"]  # fmt: skip
    expected = [
        "command line, lora.rank=2: lora.rank: has no effect: the method is red",
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
    error = red(command, recipe, "--json").json["error"]
    assert error["code"] == "invalid-recipe"
    [fault] = error["faults"]
    assert (fault["where"].endswith("reviews.yaml, line 10"), fault["key"]) == (True, "train.warmup_steps")
    assert "500" in fault["message"]
    assert not (tmp_path / "run").exists()


def test_more_steps_than_any_run_has(recipe: Path) -> None:
    loaded = load_recipe(str(recipe), None, ["train.num_train_epochs=1e6"])
    require_schedule(loaded, 10**9, 1000)
    with pytest.raises(UserError, match=r"train\.num_train_epochs: 1e\+06.* 10,000,000,000") as caught:
        require_schedule(loaded, 10**10, 10_000)
    assert codes(caught.value) == ["invalid-value"]
