"""A prompt and the text that completes it, on any data of the user's."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedTokenizerBase

from red_cli.edit.kinds import Kind
from red_cli.errors import UserError
from red_cli.recipe.data import Data
from red_cli.recipe.tasks.generation import GenerationSettings
from red_cli.recipe.template import fields
from red_cli.tasks.base import Encoded, Generated, Passes, Prediction, Shown
from red_cli.tasks.data.columns import column_texts, filled_texts, first_blank
from red_cli.tasks.data.loading import divide, read_splits, require_uncut, split_names
from red_cli.tasks.data.splits import PaperCut
from red_cli.tasks.data.tables import Rows
from red_cli.tasks.text.language import Cut, EncodedTexts, TextBatch, collate_texts, fit, flat, losses_of, row_losses
from red_cli.tasks.text.packing import Pack, collate_packs
from red_cli.tasks.text.tokens import Ends, Frame, find_ends, find_frame
from red_cli.tasks.text_metrics.score import score_texts

_ENCODE_ROWS = 1000
_DEFAULT_NEW_TOKENS = GenerationSettings.default_new_tokens or 0
_LARGEST_LOSS = 700.0  # its exponential is still a number
_OF_LOSSES = ("loss", "perplexity")  # metrics for which no text is generated


@dataclass
class GenerationTask:
    """A prompt -> a text."""

    data: Data
    settings: GenerationSettings
    kind: Kind
    config: PretrainedConfig
    max_new_tokens: int | None
    metric: str = "loss"
    metrics: tuple[str, ...] = (*_OF_LOSSES, "exact_match")
    validation_splits: tuple[str, ...] = ("validation",)
    label_names: list[str] | None = None
    paper_cut: PaperCut | None = None
    ends: Ends = field(init=False)
    frame: Frame = field(init=False)
    tokenizer: PreTrainedTokenizerBase = field(init=False)
    max_length: int = field(init=False)

    @property
    def label_column(self) -> str:
        return self._columns("completion")[0]

    def split_names(self) -> list[str]:
        """The splits that there are; nothing is read yet."""
        return split_names(self.data, self.label_column)

    def load(self, seed: int, needed: Sequence[str]) -> dict[str, Rows]:
        """Read the `needed` splits.

        Raises:
            UserError: a file or split is missing, unreadable or empty.
        """
        return divide(read_splits(self.data, self.label_column, needed, with_train=False), self.data, seed)

    def has_labels(self, rows: Rows) -> bool:
        """Whether a split has completions, and does not hide them: null or empty in every row."""
        names = self._columns("completion")
        if any(name not in rows.table.column_names for name in names):
            return False
        return any(value not in (None, "") for name in names for value in rows.column(name))

    def encode(self, rows: Rows, tokenizer: PreTrainedTokenizerBase, max_length: int) -> EncodedTexts:
        """Tokens of prompts and completions, an end after each completion, cut to `max_length` tokens.

        Where a prompt's own tokens begin those of prompt and completion together, the completion's are the rest, as in
        running text; elsewhere each is tokenised by itself. What is generated from has the same tokens as a prompt.

        Raises:
            UserError: a column is missing, a value is no text, a completion is empty, a prompt without tokens (the row
                is named), or rows are too long where that is refused.
        """
        self.tokenizer, self.max_length = tokenizer, max_length
        self.ends = find_ends(tokenizer, self.config, self.kind, self.settings.end_token)
        self.frame = self._frame(tokenizer)
        if max_length < len(self.frame) + 2:
            raise UserError(f"data.max_length is {max_length}; no prompt and completion fit into so few tokens")
        prompts = self._texts(rows, "prompt")
        completions = self._completions(rows) if self.has_labels(rows) else None
        fitted: list[Cut] = []
        for start in range(0, len(prompts), _ENCODE_ROWS):
            chunk = slice(start, start + _ENCODE_ROWS)
            fitted += self._fit(prompts[chunk], None if completions is None else completions[chunk])
        if empty := next((row for row, part in enumerate(fitted, start=1) if not part.prompt), None):
            raise UserError(f"{rows.source}, row {empty}: the prompt is empty, and this tokenizer begins with nothing")
        cut = [row for row, part in enumerate(fitted, start=1) if part.cut]
        require_uncut(self.data, rows, len(cut), min(cut, default=0), max_length)
        features, offsets, prompt_lengths = flat(fitted)
        unlearnt = 1 if self._whole else prompt_lengths  # nothing precedes the first token
        return EncodedTexts(
            features=features,
            offsets=offsets,
            labels=None if completions is None else np.diff(offsets) - unlearnt,
            truncated=len(cut),
            ends_cut=sum(part.end_cut for part in fitted),
            prompt_lengths=prompt_lengths,
            rows=rows,
        )

    def collate(self, encoded: Encoded, indices: NDArray[np.int64]) -> TextBatch:
        assert isinstance(encoded, EncodedTexts)
        return collate_texts(encoded, indices, self.kind, self.ends, whole=self._whole)

    def collate_packed(self, encoded: Encoded, packs: Sequence[Pack]) -> TextBatch:
        """The rows of `packs`, a sequence for each."""
        assert isinstance(encoded, EncodedTexts)
        return collate_packs(encoded, packs, self.ends.padding, whole=self._whole)

    def loss(self, model: nn.Module, batch: TextBatch) -> Tensor:
        return losses_of(model, batch).sum()

    def answer(self, encoded: Encoded, passes: Passes, final: bool) -> list[Prediction]:
        """Losses where there are completions; texts where they are asked for or choose the best checkpoint."""
        assert isinstance(encoded, EncodedTexts)
        answers = [Prediction(None, None)] * len(encoded) if encoded.labels is None else passes.forward(self._losses)
        prompts = self._texts(encoded.rows, "prompt")
        labels = [None] * len(prompts) if encoded.labels is None else self._completions(encoded.rows)
        texts: Sequence[Generated | None] = [None] * len(prompts)
        if final or self.metric not in _OF_LOSSES:
            texts = self._generate(encoded.rows, prompts, passes, final)
        return [
            replace(answer, label=label, prompt=prompt)
            if text is None
            else replace(answer, label=label, prompt=prompt, prediction=text.text, finished=text.finished)
            for answer, label, prompt, text in zip(answers, labels, prompts, texts, strict=True)
        ]

    def score(self, predictions: Sequence[Prediction]) -> dict[str, float]:
        """The mean loss over tokens; of generated texts each distinct prompt counts once, with all its completions."""
        losses = [(answer.loss, answer.tokens) for answer in predictions if answer.loss is not None]
        loss = math.fsum(loss for loss, _ in losses) / sum(tokens or 0 for _, tokens in losses)
        scores = {"loss": loss, "perplexity": math.exp(min(loss, _LARGEST_LOSS))}
        texts, references = grouped_texts(predictions)
        if texts:
            scores |= text_scores(texts, references, [name for name in self.metrics if name not in _OF_LOSSES])
            scores["unfinished"] = len({answer.prompt for answer in predictions if answer.finished is False})
        return scores

    def show(self, encoded: Encoded, index: int) -> Shown:
        assert isinstance(encoded, EncodedTexts)
        masked = 0 if self._whole else int(encoded.prompt_lengths[index])
        return Shown(encoded.row(index).tolist(), masked, None)

    @property
    def _whole(self) -> bool:
        return self.settings.train_on_prompt

    def _frame(self, tokenizer: PreTrainedTokenizerBase) -> Frame:
        """What stands around a prompt; after a decoder's nothing does, its completion goes on from it."""
        frame = find_frame(tokenizer)
        return frame if self.kind.encoder_decoder else Frame(frame.before, [])

    def _losses(self, model: nn.Module, batch: TextBatch) -> list[Prediction]:
        sums, tokens = row_losses(model, batch)
        pairs = zip(sums.tolist(), tokens.tolist(), strict=True)
        return [Prediction(None, None, loss=loss, tokens=count) for loss, count in pairs]

    def _generate(self, rows: Rows, prompts: list[str], passes: Passes, final: bool) -> list[Generated]:
        context, encoder_decoder = passes.context, self.kind.encoder_decoder
        wanted = self.max_new_tokens or min(_DEFAULT_NEW_TOKENS, max(1, context // 2))
        limit = min(self.max_length, context if encoder_decoder else context - wanted)
        if limit < len(self.frame) + 1:
            raise UserError(
                f"eval.generation.max_new_tokens is {wanted}, but the base takes {context} tokens, prompt included"
            )
        ids = self.tokenizer(prompts, add_special_tokens=False)["input_ids"]
        fitted = [fit(prompt, None, self.frame, self.ends.end, limit, encoder_decoder) for prompt in ids]
        cut = [row for row, part in enumerate(fitted, start=1) if part.cut]
        require_uncut(self.data, rows, len(cut), min(cut, default=0), limit)
        if cut and final:
            passes.note(f"{len(cut):,} of {len(ids):,} prompts lost their beginning: longer than {limit:,} tokens.")
        return passes.generate([part.prompt for part in fitted], self.ends, wanted)

    def _fit(self, prompts: list[str], completions: list[str] | None) -> list[Cut]:
        apart, limit = self.kind.encoder_decoder, self.max_length
        prompt_ids = self.tokenizer(prompts, add_special_tokens=False)["input_ids"]
        answers: Sequence[list[int] | None] = [None] * len(prompts)
        if completions is not None:
            answers = self.tokenizer(completions, add_special_tokens=False)["input_ids"]
            if not apart and not self.frame.after:
                running = [prompt + completion for prompt, completion in zip(prompts, completions, strict=True)]
                together = self.tokenizer(running, add_special_tokens=False)["input_ids"]
                answers = [
                    both[len(prompt) :] if both[: len(prompt)] == prompt else alone
                    for prompt, both, alone in zip(prompt_ids, together, answers, strict=True)
                ]
        return [
            fit(prompt, answer, self.frame, self.ends.end, limit, apart)
            for prompt, answer in zip(prompt_ids, answers, strict=True)
        ]

    def _completions(self, rows: Rows) -> list[str]:
        if blank := first_blank(rows, self._columns("completion")):
            raise UserError(
                f"{rows.source}, row {blank}: the completion is empty",
                hint="Drop the row; a split that is to be completed has none in any row.",
            )
        return self._texts(rows, "completion")

    def _columns(self, part: str) -> list[str]:
        """The columns that prompt or completion come from."""
        template = self._template(part)
        return fields(template) if template is not None else [getattr(self.data.columns, part) or part]

    def _template(self, part: str) -> str | None:
        return getattr(self.settings, f"{part}_template")

    def _texts(self, rows: Rows, part: str) -> list[str]:
        template = self._template(part)
        return column_texts(rows, self._columns(part)[0]) if template is None else filled_texts(rows, template)


def grouped_texts(predictions: Sequence[Prediction]) -> tuple[list[str], list[list[str]]]:
    """The generated text of each distinct prompt, and the completions that its rows have: none where none is known."""
    groups: dict[str | None, list[Prediction]] = {}
    for answer in predictions:
        if answer.prediction is not None:
            groups.setdefault(answer.prompt, []).append(answer)
    texts = [str(group[0].prediction) for group in groups.values()]
    truths = [[str(answer.label).strip() for answer in group if answer.label is not None] for group in groups.values()]
    return texts, truths


def text_scores(texts: Sequence[str], references: Sequence[Sequence[str]], names: Sequence[str]) -> dict[str, float]:
    """Metrics of one text for each prompt, held against the completions that the prompt has.

    Those that need Java are left out where there is none.
    """
    scores = {}
    if "exact_match" in names:
        right = sum(text in known for text, known in zip(texts, references, strict=True))
        scores["exact_match"] = right / len(texts)
    if others := [name for name in names if name != "exact_match"]:
        computed = score_texts(texts, references, others)
        scores |= {name: value for name, value in computed.items() if value is not None}
    return scores
