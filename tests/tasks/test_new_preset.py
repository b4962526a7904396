"""Two files add a preset to all commands, as CONTRIBUTING.md says."""

from __future__ import annotations

import json
from pathlib import Path

from tests.copied_package import CopiedPackage
from tests.tiny import make_language_model

SETTINGS = '''
"""Keys of the task rhyme."""

from typing import ClassVar, Literal

from pydantic import Field

from red_cli.recipe.metrics import Metric
from red_cli.recipe.tasks.base import CompletionSettings, Heading


class RhymeSettings(CompletionSettings):
    """A word -> one that rhymes with it."""

    name: Literal["rhyme"]
    loud: bool = Field(default=False, description="In capitals.")

    @property
    def metrics(self) -> tuple[Metric, ...]:
        return ("exact_match", "loss")

    @property
    def heading(self) -> Heading:
        return Heading(50, "Rhymes")

    def template(self, part: str) -> str | None:
        return {"prompt": "{word}", "completion": "{rhyme}"}[part]
'''
BUILDER = '''
"""Recipe -> the task rhyme."""

from red_cli.edit.model_kinds import language_model_kind
from red_cli.recipe.tasks.rhyme import RhymeSettings
from red_cli.tasks.base import builds
from red_cli.tasks.data.splits import Source
from red_cli.tasks.text.generation import GenerationTask, TemplateTexts


@builds(RhymeSettings)
def rhyme_task(recipe, settings, config, label_names):
    """The task."""
    texts = TemplateTexts(recipe.data.columns, settings.template("prompt"), settings.template("completion"))
    return GenerationTask(
        data=recipe.data,
        source=Source.of(recipe.data, texts.label_column),
        texts=texts,
        kind=language_model_kind(config),
        metric=recipe.eval.metric or settings.metrics[0],
        max_new_tokens=4,
    )
'''
RECIPE = """# Rhymes. For tests.
task: {{name: rhyme}}
model: {{name_or_path: {folder}/base}}
data: {{train: {folder}/words.jsonl, validation: {folder}/words.jsonl}}
train: {{learning_rate: 1e-2, max_steps: 2, batch_size: 4, micro_batch_size: 4, packing: true}}
output: {{dir: {folder}/run}}
"""


def test_two_files_are_a_preset(tmp_path: Path) -> None:
    copy = CopiedPackage(tmp_path / "copy")
    copy.write("recipe/tasks/rhyme.py", SETTINGS)
    copy.write("tasks/presets/rhyme.py", BUILDER)
    make_language_model(tmp_path / "base")
    words = [{"word": word, "rhyme": f"{word} good"} for word in ("the", "bad", "film", "was") * 2]
    (tmp_path / "words.jsonl").write_text("".join(json.dumps(row) + "\n" for row in words))
    recipe, run = tmp_path / "rhyme.yaml", tmp_path / "run"
    recipe.write_text(RECIPE.format(folder=tmp_path))
    outcomes = copy.red(["check", recipe], ["train", recipe], ["eval", run], ["report", run], ["schema"])
    assert [outcome.code for outcome in outcomes] == [0] * 5, outcomes
    assert "rhyme, scored by exact_match" in outcomes[0].out
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["task"] == "rhyme"
    assert {"loss", "exact_match"} <= metrics["splits"]["validation"].keys()
    assert "#/$defs/RhymeTask" in outcomes[4].out
