"""Classification and regression of one text or a pair: where rows come from, and how answers are scored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from red_cli.edit.model_kinds import ENCODER_DECODER, SEQUENCE_CLASSIFIER, ModelKind
from red_cli.recipe.sections import Data
from red_cli.recipe.template import template_fields
from red_cli.tasks.base import Base, Prediction
from red_cli.tasks.data.bad_rows import text_faults, without_bad_rows
from red_cli.tasks.data.paper_cut import PaperCut
from red_cli.tasks.data.rows import Rows
from red_cli.tasks.data.splits import Source, Splits, split_validation
from red_cli.tasks.labels import encoder
from red_cli.tasks.labels.classes import counted, nearly_equal
from red_cli.tasks.labels.encoder import LabelEncoder
from red_cli.tasks.labels.targets import Target, has_targets
from red_cli.tasks.labels.text_to_text import AnswerTexts, bind_text_to_text, score_texts


@dataclass(frozen=True)
class LabelTask:
    """One text or a pair of texts -> a label or a number.

    Attributes:
        target: the labels or numbers to predict.
        texts: how an encoder-decoder writes them as text; None: a head predicts them.
    """

    data: Data
    target: Target
    metrics: tuple[str, ...]
    metric: str
    validation_splits: tuple[str, ...] = ("validation",)
    paper_cut: PaperCut | None = None
    texts: AnswerTexts | None = None

    @property
    def kind(self) -> ModelKind:
        """The class of model that is trained."""
        return SEQUENCE_CLASSIFIER if self.texts is None else ENCODER_DECODER

    @property
    def label_column(self) -> str:
        """The column of the labels."""
        return encoder.label_column(self.data)

    @property
    def _source(self) -> Source:
        return Source.of(self.data, self.label_column)

    def split_names(self) -> list[str]:
        """Names of the available splits; no data is read."""
        names = self._source.split_names()
        return names if self.paper_cut is None else self.paper_cut.with_parts(names)

    def load(self, seed: int, needed: Sequence[str]) -> Splits:
        """Read the splits `needed`, and the training split if label names have to be found in it.

        Raises:
            UserError: a file, split or label column is missing, or a split is unreadable, empty or too small to divide.
        """
        if self.paper_cut is None:
            return self._official(seed, needed)
        sources = self.paper_cut.sources(needed, self.split_names(), str(self.data.path or self.data.train))
        official = self._official(seed, sources)
        return replace(official, rows=self.paper_cut.apply(official.rows, needed, seed))

    def _official(self, seed: int, needed: Sequence[str]) -> Splits:
        """The splits `needed` of the data, with validation rows drawn from the training rows if the recipe says so."""
        rows = self._source.read(needed, with_train=self.target.needs_fit)
        target = self.target.fit(rows["train"], self.label_column) if "train" in rows else self.target
        rows = {split: self._usable(split, found, target) for split, found in rows.items()}
        classes = None
        if "train" in rows and target.names is not None:
            if self.target.needs_fit and (note := nearly_equal(target.names)):
                rows["train"] = replace(rows["train"], notes=(*rows["train"].notes, note))
            if self.data.validation_share is not None:
                classes = target.encode(rows["train"], self.label_column).tolist()
        return Splits(split_validation(rows, self.data, seed, classes), target.names)

    def _usable(self, split: str, rows: Rows, target: Target) -> Rows:
        """The rows of a split that can be used, or all of them refused, as data.bad_rows says."""
        template = None if self.texts is None else self.texts.prompt_template
        names = encoder.text_columns(self.data, rows) if template is None else template_fields(template)
        there = [name for name in names if name in rows.table.column_names]  # the encoder reports others
        faults = text_faults(rows, there, str if template is None else (str, int, float))
        if has_targets(rows, self.label_column, target.names):
            faults = target.faults(rows, self.label_column) | faults
        return without_bad_rows(rows, split, faults, self.data.bad_rows)

    def classes(self, rows: Rows, label_names: list[str] | None) -> dict[str, int]:
        """Label -> number of rows; empty for numbers, and for rows without labels."""
        target = self.target.named(label_names)
        if target.names is None or not self.has_labels(rows, label_names):
            return {}
        return counted(target.names, target.encode(rows, self.label_column).tolist())

    def has_labels(self, rows: Rows, label_names: list[str] | None) -> bool:
        """Whether a split has labels that are not hidden: null, empty, or -1 as in the Hub's GLUE."""
        return has_targets(rows, self.label_column, label_names)

    def bind(self, base: Base, label_names: list[str] | None) -> LabelEncoder:
        """The task's encoder for a base.

        Raises:
            UserError: the tokenizer cannot write an answer text, or two of them become the same.
        """
        target = self.target.named(label_names)
        if self.texts is None:
            return LabelEncoder(base, self.data, target)
        return bind_text_to_text(base, self.data, target, self.texts)

    def score(self, predictions: Sequence[Prediction], label_names: list[str] | None) -> dict[str, float]:
        """Every metric over labelled predictions."""
        target = self.target.named(label_names)
        if self.texts is not None:
            return score_texts(target, self.metrics, predictions)
        predicted = [answer.prediction for answer in predictions]
        return target.score(self.metrics, predicted, [answer.label for answer in predictions])

    def generated_texts(self, predictions: Sequence[Prediction]) -> tuple[list[str], list[list[str]]]:
        """No texts for text metrics, since a generated text stands for a label or a number."""
        return [], []
