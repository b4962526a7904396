"""E2E NLG: meaning representations of restaurants -> descriptions (Novikova et al., SIGDIAL 2017)."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from transformers import PretrainedConfig

from red_cli.edit.model_kinds import language_model_kind
from red_cli.errors import UserError, shown
from red_cli.recipe.chosen_metrics import loss_metrics, text_metrics
from red_cli.recipe.schema import Recipe
from red_cli.recipe.sections import Columns, Data
from red_cli.recipe.tasks.e2e import MEANING, OFFICIAL_NAMES, TEXT, E2eSettings
from red_cli.tasks.base import builds
from red_cli.tasks.data.read_splits import find_splits
from red_cli.tasks.data.rows import Rows
from red_cli.tasks.data.splits import Readers, Source
from red_cli.tasks.text.generation import GenerationTask, TemplateTexts

# The authors' data set on the Hub needs a script; the Hub's own conversion to Parquet does not.
HUB_NAME, HUB_REVISION = "tuetschek/e2e_nlg", "refs/convert/parquet"
# Attributes with other names in the tabular form (from the files that LoRA and prefix-tuning train on)
_IN_TABLES = {"eatType": "Type", "priceRange": "price", "familyFriendly": "family friendly"}
_ATTRIBUTE = re.compile(r"\s*([^\[\],]+?)\s*\[([^\[\]]*)\]\s*(?:,|$)")


@builds(E2eSettings)
def e2e_task(
    recipe: Recipe, settings: E2eSettings, config: PretrainedConfig, label_names: list[str] | None
) -> GenerationTask:
    """The task, with the Hub's data unless the recipe names files with the same columns.

    For a decoder the end token separates meaning and text in both linearizations.
    """
    columns, kind = recipe.data.columns, language_model_kind(config)
    changes: dict[str, object] = {
        "columns": Columns(prompt=columns.prompt or MEANING, completion=columns.completion or TEXT)
    }
    if recipe.data.path is None and recipe.data.train is None:
        changes |= {"path": HUB_NAME, "revision": HUB_REVISION}
    data = recipe.data.model_copy(update=changes)
    texts = TemplateTexts(data.columns)
    if settings.linearization == "table":
        texts = TabularTexts(data.columns, decoder=not kind.encoder_decoder)
    return GenerationTask(
        data=data,
        source=Source(data, partial(_official_files, data)),
        kind=kind,
        metric=recipe.eval.metric or settings.metrics[0],
        metrics=(*loss_metrics(recipe), *text_metrics(recipe)),
        max_new_tokens=recipe.eval.max_new_tokens,
        texts=texts,
        ends_prompts=True,
    )


@dataclass(frozen=True, kw_only=True)
class TabularTexts(TemplateTexts):
    """Meaning representations in tabular form; for a decoder a text begins with a space."""

    decoder: bool

    def prompts(self, rows: Rows) -> list[str]:
        """The meaning representations in tabular form.

        Raises:
            UserError: a value is not a meaning representation.
        """
        texts = super().prompts(rows)
        return [_tabular(text, rows.place(row)) for row, text in enumerate(texts)]

    def completions(self, rows: Rows) -> list[str]:
        """The texts."""
        texts = super().completions(rows)
        return [f" {text}" for text in texts] if self.decoder else texts


def tabular(meaning: str) -> str:
    """`name[Blue Spice], eatType[pub]` -> `name : Blue Spice | Type : pub`.

    Raises:
        ValueError: `meaning` has another form.
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
    """An E2E meaning representation in tabular form; an error that names the row if it is not one."""
    try:
        return tabular(meaning)
    except ValueError:
        raise UserError(
            "invalid-row",
            f"{where}: {shown(meaning)} is not a meaning representation such as name[Blue Spice], food[French]",
            hint="For other texts use task.linearization=published, which leaves them unchanged.",
        ) from None


def _official_files(data: Data) -> Readers:
    """The splits; columns of the official CSV files get the Hub's names if the recipe uses those."""
    wanted = (data.columns.prompt, data.columns.completion)
    readers = find_splits(data, data.columns.completion or TEXT)
    return {split: partial(_renamed, read, wanted) for split, read in readers.items()}


def _renamed(read: Callable[[], Rows], wanted: Sequence[str | None]) -> Rows:
    """Read rows with the columns of the official E2E files renamed as the task expects them."""
    rows = read()
    names = rows.table.column_names
    new = [OFFICIAL_NAMES.get(name.lower(), name) for name in names]
    new = [name if other in names or other not in wanted else other for name, other in zip(names, new, strict=True)]
    return replace(rows, table=rows.table.rename_columns(new))
