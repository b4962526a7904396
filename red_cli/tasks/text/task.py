"""The common part of tasks that generate texts: loading rows and scoring."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from red_cli.edit.model_kinds import ModelKind
from red_cli.recipe.sections import Data
from red_cli.tasks.base import Prediction
from red_cli.tasks.data.paper_cut import PaperCut
from red_cli.tasks.data.rows import Rows
from red_cli.tasks.data.splits import Source, Splits
from red_cli.tasks.text.token_loss import mean_loss
from red_cli.tasks.text_metrics.score import score_texts

OF_LOSSES = ("loss", "perplexity")  # metrics that need no generated text
_LARGEST_LOSS = 700.0  # the exponential of a larger one overflows


@dataclass(frozen=True, kw_only=True)
class TextTask:
    """Rows -> texts.

    Attributes:
        source: reads the splits.
        max_new_tokens: most tokens of a generated text; None: the default, limited by the base's context.
    """

    data: Data
    source: Source
    kind: ModelKind
    metric: str = "loss"
    metrics: tuple[str, ...] = (*OF_LOSSES, "exact_match")
    max_new_tokens: int | None = None
    validation_splits: tuple[str, ...] = ("validation",)
    paper_cut: PaperCut | None = None

    def split_names(self) -> list[str]:
        """Names of the available splits; no data is read."""
        return self.source.split_names()

    def load(self, seed: int, needed: Sequence[str]) -> Splits:
        """Read the splits `needed`.

        Raises:
            UserError: a file or split is missing, unreadable or empty.
        """
        return Splits(self.source.load(seed, needed))

    def classes(self, rows: Rows, label_names: list[str] | None) -> dict[str, int]:
        """Empty, since answers are texts."""
        return {}

    def score(self, predictions: Sequence[Prediction], label_names: list[str] | None) -> dict[str, float]:
        """The mean loss of tokens if it was computed, and metrics of generated texts.

        Each distinct prompt counts once, with all its completions as references.
        """
        scores: dict[str, float] = {}
        if any(answer.loss is not None for answer in predictions):
            loss = mean_loss(predictions)
            scores = {"loss": loss, "perplexity": math.exp(min(loss, _LARGEST_LOSS))}
        texts, references = self.generated_texts(predictions)
        if texts:
            scores |= _text_scores(texts, references, [name for name in self.metrics if name not in OF_LOSSES])
            scores["unfinished"] = len({answer.prompt for answer in predictions if answer.finished is False})
        return scores

    def generated_texts(self, predictions: Sequence[Prediction]) -> tuple[list[str], list[list[str]]]:
        """The text of each distinct prompt, and the completions of its rows; an empty list if unknown."""
        groups: dict[str | None, list[Prediction]] = {}
        for answer in predictions:
            if answer.prediction is not None:
                groups.setdefault(answer.prompt, []).append(answer)
        texts = [str(group[0].prediction) for group in groups.values()]
        known = [[answer.label for answer in group if answer.label is not None] for group in groups.values()]
        return texts, [[str(label).strip() for label in labels] for labels in known]


def _text_scores(texts: Sequence[str], references: Sequence[Sequence[str]], names: Sequence[str]) -> dict[str, float]:
    """The scores of a text task: metrics of one text per prompt against its completions.

    Metrics that need Java are left out if Java is missing.
    """
    scores = {}
    if "exact_match" in names:
        right = sum(text in known for text, known in zip(texts, references, strict=True))
        scores["exact_match"] = right / len(texts)
    if others := [name for name in names if name != "exact_match"]:
        computed = score_texts(texts, references, others)
        scores |= {name: value for name, value in computed.items() if value is not None}
    return scores
