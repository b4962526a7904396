"""Build the commonsense task by the rules of its protocol, and show its results as a table."""

from __future__ import annotations

from collections.abc import Mapping

from transformers import PretrainedConfig

from red_cli.edit.model_kinds import language_model_kind
from red_cli.errors import UserError
from red_cli.recipe.schema import Recipe
from red_cli.recipe.score_format import format_score
from red_cli.recipe.sections import Columns
from red_cli.recipe.tasks.commonsense import CommonsenseSettings
from red_cli.tasks.base import builds
from red_cli.tasks.data.splits import Source
from red_cli.tasks.presets.commonsense_files import CommonsenseFiles
from red_cli.tasks.presets.commonsense_protocol import ANSWER_PREFIX, COMMONSENSE, MAX_NEW_TOKENS, read_answer
from red_cli.tasks.presets.commonsense_task import GENERATED, LIKELIEST, CommonsenseTask
from red_cli.tasks.text.generation import TemplateTexts

_WAYS = {GENERATED: "generated", LIKELIEST: "likeliest"}
_MISSING = "-"


@builds(CommonsenseSettings)
def commonsense_task(
    recipe: Recipe, settings: CommonsenseSettings, config: PretrainedConfig, label_names: list[str] | None
) -> CommonsenseTask:
    """Build the commonsense task by the rules of its protocol; no data is read.

    Raises:
        UserError: the base is not a decoder.
    """
    kind = language_model_kind(config)
    if kind.encoder_decoder:
        raise UserError(
            "unsupported-model",
            f"commonsense is for decoders; {config.model_type} is an encoder-decoder",
            hint="Use the task generation with the same files: red recipes copy generation",
        )
    files = CommonsenseFiles(recipe.data, settings.subset, settings.prompt_template)
    return CommonsenseTask(
        data=recipe.data,
        source=Source(recipe.data, files.readers),
        kind=kind,
        max_new_tokens=recipe.eval.max_new_tokens or MAX_NEW_TOKENS,
        metric=recipe.eval.metric or settings.metrics[0],
        texts=TemplateTexts(Columns()),
        read=read_answer,
        answer_prefix=ANSWER_PREFIX,
        scoring=settings.scoring,
    )


def commonsense_table(scores: Mapping[str, float]) -> list[list[str]]:
    """The commonsense preset's scores as a table: a row for each scoring, a column for each task, heading first.

    It is empty if `scores` are not of several tasks. The average is over the tasks with a score.
    """
    rows, count = [], 0
    for name, way in _WAYS.items():
        shares = {task: scores.get(f"{name}.{task}") for task in COMMONSENSE}
        if there := [share for share in shares.values() if share is not None]:
            count = len(there)
            cells = [_MISSING if share is None else format_score(name, share) for share in shares.values()]
            rows.append([way, *cells, format_score(name, scores[name])])
    average = "avg" if count == len(COMMONSENSE) else f"avg of {count}"
    return [["", *(facts.title for facts in COMMONSENSE.values()), average], *rows] if rows else []
