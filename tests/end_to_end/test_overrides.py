"""Every command treats the overrides `train.seed=7` and `train={seed: 7}` alike."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from red_cli.benchmarks.question_suites import suite_decoding
from red_cli.compare.comparison import plan_comparison
from red_cli.compare.seeds import load_seeds
from red_cli.errors import UserError
from red_cli.export.export import open_source
from red_cli.recipe.load import load_recipe
from red_cli.recipe.sections import Decoding
from red_cli.runs.open_trained import open_for_inference
from red_cli.train.loop import train
from tests.tiny import make_data


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, base: Path, data: Path) -> Path:
    """A finished run of one step."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    keys = ["task={name: classification}", f"model.name_or_path={base}", f"data.path={data}", "train.max_steps=1"]
    train(load_recipe("classification", None, [*keys, f"output.dir={folder}"]))
    return folder


def outcome(call: Callable[[], Any]) -> Any:
    """What a call returns, or its error."""
    try:
        return call()
    except UserError as error:
        return error


# overrides of `red eval`: dotted, as a mapping -> whether the rows are those of the run; None: refused
EVALUATED = {
    "a seed": ("train.seed=7", "train={seed: 7}", None),
    "the seed of the run": ("train.seed=42", "train={seed: 42}", None),
    "what training records": ("train.logging_steps=1", "train={logging_steps: 1}", None),
    "options": ("red.layers=all", "red={layers: all}", None),
    "options of another method": ("lora.rank=2", "lora={rank: 2}", None),
    "other data": ("data.path={other}", "data={{path: {other}}}", False),
    "the data of the run": ("data.path={data}", "data={{path: {data}}}", True),
    "other columns": ("data.columns.text=words", "data={{columns: {{text: words}}}}", False),
    "a task": ("task.labels=[a, b]", "task={{labels: [a, b]}}", False),
    "how many at once": ("eval.batch_size=4", "eval={{batch_size: 4}}", True),
    "a metric": ("eval.metric=f1", "eval={{metric: f1}}", True),
    "another base": ("model.name_or_path={base}", "model={{name_or_path: {base}}}", True),
    "a cosmetic key": ("paper.note=x", "paper={{note: x, model: m, table: '1', score: 1}}", True),
}


@pytest.mark.parametrize(("dotted", "mapping", "same_rows"), EVALUATED.values(), ids=EVALUATED.keys())
@pytest.mark.parametrize("place", ["run", "adapter"])
def test_of_an_evaluation(
    run: Path, base: Path, data: Path, tmp_path: Path, dotted: str, mapping: str, same_rows: bool | None, place: str
) -> None:
    other = make_data(tmp_path / "other")
    folder = run if place == "run" else run / "adapter"
    extra = ["paper={model: m, table: '1', score: 1}"] if dotted.startswith("paper") else []
    for form in (dotted, mapping):
        override = form.replace("{{", "{").replace("}}", "}")
        for name, path in (("{other}", other), ("{data}", data), ("{base}", base)):
            override = override.replace(name, str(path))
        found = outcome(lambda override=override: open_for_inference(folder, None, [*extra, override]).same_rows)
        if same_rows is None:
            assert found.code == "invalid-option"
            assert override in found.message
        else:
            assert found == same_rows


def test_the_base_of_an_adapter_is_the_one_that_is_named(run: Path, base: Path) -> None:
    copy = f"{base.parent}/./{base.name}"
    for override in (f"model.name_or_path={copy}", f"model={{name_or_path: {copy}}}"):
        assert open_for_inference(run / "adapter", None, [override]).recipe.model.name_or_path == str(base)
    elsewhere = open_for_inference(run / "adapter", None, ["model={name_or_path: some/where}"])
    assert elsewhere.recipe.model.name_or_path == "some/where"


# overrides of `red export`: dotted, as a mapping -> whether it takes them
EXPORTED = {
    "a folder": ("data.path=x", "data={path: x}", True),
    "a column": ("data.columns.text=x", "data={columns: {text: x}}", True),
    "a seed": ("train.seed=7", "train={seed: 7}", False),
    "a strategy": ("launch.strategy=ddp", "launch={strategy: ddp}", False),
    "nothing": ("data", "data={}", False),
}


@pytest.mark.parametrize(("dotted", "mapping", "taken"), EXPORTED.values(), ids=EXPORTED.keys())
def test_of_an_export(run: Path, dotted: str, mapping: str, taken: bool) -> None:
    for override in (dotted, mapping):
        found = outcome(lambda override=override: open_source(run, None, None, [override]))
        assert (isinstance(found, UserError) and found.code == "invalid-option") == (not taken)


@pytest.mark.parametrize("override", ["train.seed=1", "train={seed: 1}", "train={bf16: true, seed: 1}"])
def test_of_several_seeds(override: str) -> None:
    for call in (
        lambda: load_seeds("quickstart", None, [override], [1, 2]),
        lambda: plan_comparison("quickstart", None, [override], ["red", "head"], [1, 2]),
    ):
        error = outcome(call)
        assert error.code == "invalid-option"
        assert "train.seed" in error.message


# overrides of one method of a comparison: dotted, as a mapping -> the key that is refused
OF_ONE_METHOD = {
    "a seed": ("train.seed=3", "train={seed: 3}", "train.seed"),
    "data": ("data.path=x", "data={path: x}", "data.path"),
    "other rows to select by": ("data.validation=x", "data={validation: x}", "data.validation"),
    "other rows to score": ("eval.split=paper", "eval={split: paper}", "eval.split"),
    "a metric": ("eval.metric=f1", "eval={metric: f1}", "eval.metric"),
    "a task": ("task.labels=[a, b]", "task={labels: [a, b]}", "task.labels"),
    "a folder": ("output.dir=x", "output={dir: x}", "output.dir"),
    "a method": ("method=lora", "method=lora", "method"),
    "a rate": ("train.learning_rate=0.5", "train={learning_rate: 0.5}", None),
    "options": ("lora.rank=3", "lora={rank: 3}", None),
    "fewer rows": ("data.max_train_rows=3", "data={max_train_rows: 3}", None),
}


@pytest.mark.parametrize(("dotted", "mapping", "refused"), OF_ONE_METHOD.values(), ids=OF_ONE_METHOD.keys())
def test_of_one_method(dotted: str, mapping: str, refused: str | None) -> None:
    plans = []
    for override in (dotted, mapping):
        call = lambda override=override: plan_comparison(  # noqa: E731
            "quickstart", None, [f"head:{override}"], ["red", "head"], None
        )
        found = outcome(call)
        if refused is None:
            plans.append([run.loaded.recipe for run in found.runs])
        else:
            assert found.code == "invalid-option"
            assert found.message.startswith(f"{refused} ")
    assert refused is not None or plans[0] == plans[1]


# overrides of a benchmark: dotted, as a mapping -> what they change of the benchmark's own decoding
DECODED = {
    "beams": (["eval.generation.num_beams=3"], ["eval.generation={num_beams: 3}"], {"num_beams": 3}),
    "nested": (["eval.generation.num_beams=3"], ["eval={generation: {num_beams: 3}}"], {"num_beams": 3}),
    "none": (["eval.batch_size=3"], ["eval={batch_size: 3}"], {}),
}


@pytest.mark.parametrize(("dotted", "mapping", "changes"), DECODED.values(), ids=DECODED.keys())
def test_of_a_benchmark(dotted: list[str], mapping: list[str], changes: dict[str, Any]) -> None:
    standard = Decoding(max_new_tokens=7)
    keys = ["data.path=x/y", "model.name_or_path=x/y", "eval.generation.max_new_tokens=99"]
    for overrides in (dotted, mapping):
        recipe = load_recipe("instruction", None, [*keys, *overrides]).recipe
        assert suite_decoding(standard, recipe, overrides) == standard.model_copy(update=changes)
