"""E2E NLG: meaning representations of restaurants -> texts that say all of it (Novikova et al., SIGDIAL 2017)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from transformers import PretrainedConfig, PreTrainedTokenizerBase

from red_cli.edit.kinds import Kind, language_model_kind
from red_cli.errors import UserError, shown
from red_cli.recipe.data import Columns, Data
from red_cli.recipe.schema import Recipe, text_metrics
from red_cli.recipe.tasks.e2e import E2eSettings
from red_cli.recipe.tasks.generation import GenerationSettings
from red_cli.tasks.base import builds
from red_cli.tasks.data.tables import Rows
from red_cli.tasks.text.generation import GenerationTask
from red_cli.tasks.text.tokens import Frame

# The data set as its authors put it on the Hub comes with a script; the Hub's own conversion to Parquet needs none.
HUB_NAME, HUB_REVISION = "tuetschek/e2e_nlg", "refs/convert/parquet"
MEANING, TEXT = "meaning_representation", "human_reference"
_OFFICIAL_FILES = {"mr": MEANING, "ref": TEXT}  # their columns, as E2E's own CSV files have them
# Attributes that the tabular form calls otherwise (facts of the files that LoRA and prefix-tuning train on)
_IN_TABLES = {"eatType": "Type", "priceRange": "price", "familyFriendly": "family friendly"}
_ATTRIBUTE = re.compile(r"\s*([^\[\],]+?)\s*\[([^\[\]]*)\]\s*(?:,|$)")


@dataclass
class E2eTask(GenerationTask):
    """A meaning representation -> a text. On a decoder the end's token stands between the two, in both forms."""

    table: bool = True

    def load(self, seed: int, needed: Sequence[str]) -> dict[str, Rows]:
        """Read the `needed` splits; the official CSV files' columns get the Hub's names, where those are wanted."""
        wanted = (self.data.columns.prompt, self.data.columns.completion)
        return {split: _renamed(rows, wanted) for split, rows in super().load(seed, needed).items()}

    def _frame(self, tokenizer: PreTrainedTokenizerBase) -> Frame:
        frame = super()._frame(tokenizer)
        return frame if self.kind.encoder_decoder else Frame(frame.before, [self.ends.end])

    def _texts(self, rows: Rows, part: str) -> list[str]:
        texts = super()._texts(rows, part)
        if not self.table:
            return texts
        if part == "completion":
            return texts if self.kind.encoder_decoder else [f" {text}" for text in texts]
        return [_tabular(text, f"{rows.source}, row {rows.number(row)}") for row, text in enumerate(texts)]


@builds(E2eSettings)
def build(recipe: Recipe, settings: E2eSettings, config: PretrainedConfig, label_names: list[str] | None) -> E2eTask:
    """The task."""
    task = e2e_task(settings, recipe.data, language_model_kind(config), config, recipe.eval.max_new_tokens)
    metric = recipe.eval.metric or settings.metrics[0]
    return replace(task, metric=metric, metrics=("loss", "perplexity", *text_metrics(recipe)))


def e2e_task(
    named: E2eSettings, data: Data, kind: Kind, config: PretrainedConfig, max_new_tokens: int | None
) -> E2eTask:
    """The task, from the Hub unless `data` names files of the same columns."""
    columns = data.columns
    changes: dict[str, object] = {
        "columns": Columns(prompt=columns.prompt or MEANING, completion=columns.completion or TEXT)
    }
    if data.path is None and data.train is None:
        changes |= {"path": HUB_NAME, "revision": HUB_REVISION}
    return E2eTask(
        data.model_copy(update=changes),
        GenerationSettings(name="generation"),
        kind,
        config,
        max_new_tokens,
        table=named.linearization == "table",
    )


def tabular(meaning: str) -> str:
    """`name[Blue Spice], eatType[pub]` -> `name : Blue Spice | Type : pub`.

    Raises:
        ValueError: it is not of that form.
    """
    parts = []
    place = 0
    for match in _ATTRIBUTE.finditer(meaning):
        if match.start() != place:
            break
        name, value = match.groups()
        parts.append(f"{_IN_TABLES.get(name, name)} : {value.strip()}")
        place = match.end()
    if not parts or place != len(meaning) or meaning.rstrip().endswith(","):
        raise ValueError(meaning)
    return " | ".join(parts)


def _tabular(meaning: str, where: str) -> str:
    try:
        return tabular(meaning)
    except ValueError:
        raise UserError(
            f"{where}: {shown(meaning)} is no meaning representation such as name[Blue Spice], food[French]",
            hint="Texts of any other form are taken as they stand with task.linearization=published",
        ) from None


def _renamed(rows: Rows, wanted: Sequence[str | None]) -> Rows:
    names = rows.table.column_names
    new = [_OFFICIAL_FILES.get(name.lower(), name) for name in names]
    new = [name if other in names or other not in wanted else other for name, other in zip(names, new, strict=True)]
    return Rows(rows.table.rename_columns(new), rows.source, rows.label_names, rows.places, rows.drawn)
