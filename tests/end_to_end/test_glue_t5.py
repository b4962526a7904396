"""The t5-base variant of every GLUE recipe, on a tiny T5 and files of the tasks' layout."""

from __future__ import annotations

from pathlib import Path

import pytest

from red_cli.recipe.load import load_recipe
from red_cli.recipe.tasks.glue import GLUE
from tests.glue_files import write_glue
from tests.tiny import make_language_model, read_lines

ROWS = 24
# The large tasks' paper cut takes 1,000 training rows to choose by; so many are needed, and none of them is slow.
LARGE_ROWS = 1032


@pytest.fixture(scope="module")
def t5(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_language_model(tmp_path_factory.mktemp("t5") / "t5-base", "t5", letters=True)


@pytest.mark.parametrize(
    ("subset", "split"), [*((subset, "standard") for subset in GLUE), ("rte", "paper"), ("mnli", "paper")]
)
def test_variant(red, tmp_path: Path, t5: Path, subset: str, split: str) -> None:
    facts = GLUE[subset]
    from_training = split == "paper" and facts.large
    folder = write_glue(tmp_path / subset, subset, LARGE_ROWS if from_training else 3 * ROWS, ROWS)
    options = [
        f"model.name_or_path={t5}", f"data.path={folder}", f"eval.split={split}", f"output.dir={tmp_path / 'run'}",
        "train.num_train_epochs=1", "train.batch_size=16", "train.micro_batch_size=16", "train.logging_steps=1",
        "eval.batch_size=64", "data.max_length=32",
    ]  # fmt: skip
    outcome = red("train", f"glue_{subset}", "--variant", "t5-base", *options, "--json")
    assert outcome.code == 0, outcome.err
    trained, recipe = outcome.json, load_recipe(f"glue_{subset}", "t5-base").recipe
    assert trained["paper"]["table"] == "3"
    assert trained["paper"]["score"] == recipe.paper.score
    assert trained["parameters"]["head"] == 0
    rows = {"standard": (ROWS, ROWS), "paper": (1000, ROWS) if from_training else (ROWS // 2, ROWS // 2)}[split]
    scoring = trained["scoring"]
    assert (scoring["selection"]["examples"], scoring["scored"]["examples"]) == rows
    scored = scoring["scored"]["split"]
    assert facts.metrics[0] in trained["splits"][scored]
    answers = read_lines(tmp_path / "run" / "predictions" / f"{scored}.jsonl")
    unread = trained["splits"][scored]["no_number" if facts.labels is None else "no_label"]
    assert unread == sum(answer["prediction"] is None for answer in answers)
    if facts.labels is not None and split == "standard":
        assert {answer["label"] for answer in answers} == set(facts.labels)
        right = sum(answer["prediction"] == answer["label"] for answer in answers)
        assert trained["splits"][scored].get("accuracy", right / len(answers)) == pytest.approx(right / len(answers))
