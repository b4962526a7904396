"""The commonsense task: multiple-choice questions, scored by generated text and by the likelihood of the options."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers import PretrainedConfig

from red_cli.edit.model_kinds import language_model_kind
from red_cli.errors import UserError
from red_cli.recipe.schema import Recipe
from red_cli.recipe.sections import Columns
from red_cli.recipe.tasks.commonsense import CommonsenseSettings
from red_cli.tasks.base import Base, Encoded, Generated, ModelRunner, Prediction, TokenPreview, builds
from red_cli.tasks.data.rows import Rows
from red_cli.tasks.data.splits import Source
from red_cli.tasks.presets.commonsense_files import CommonsenseFiles
from red_cli.tasks.presets.commonsense_protocol import (
    ANSWER_PREFIX,
    GENERATED,
    LIKELIEST,
    MAX_NEW_TOKENS,
    read_answer,
)
from red_cli.tasks.text.encoded_texts import EncodedTexts
from red_cli.tasks.text.generation import GenerationEncoder, GenerationTask, TemplateTexts
from red_cli.tasks.text.likelihood import EncodedContinuations, collate_continuations, log_likelihoods
from red_cli.tasks.text.token_loss import mean_loss

_SCORINGS = {"both": (GENERATED, LIKELIEST), "generation": (GENERATED,), "likelihood": (LIKELIEST,)}
_QUESTIONS_AT_ONCE = 1000


@dataclass(frozen=True)
class CommonsensePrediction(Prediction):
    """The answer to one question; `prediction` is read from the generated `text`, and None if it gives no answer.

    Attributes:
        likeliest: the option of the highest likelihood.
        log_likelihoods: option -> log-likelihood of its text after the prompt.
        task: the question's task, if it is known.
    """

    likeliest: str | None = None
    log_likelihoods: dict[str, float] | None = None
    task: str | None = None

    def to_json(self, index: int) -> dict[str, Any]:
        extras = {name: getattr(self, name) for name in ("task", "likeliest", "log_likelihoods")}
        return super().to_json(index) | {name: value for name, value in extras.items() if value is not None}


@dataclass(frozen=True, kw_only=True)
class CommonsenseTask(GenerationTask):
    """A question and its options -> one of the options.

    Rows have the columns prompt, completion (the answer as a text), answer, options and task; the last two are null if
    unknown.

    Attributes:
        read: (generated text, options) -> the option that the text names, or None.
        answer_prefix: the text before an option.
        scoring: both, generation or likelihood.
    """

    read: Callable[[str, list[str]], str | None]
    answer_prefix: str
    scoring: str
    metrics: tuple[str, ...] = (GENERATED, LIKELIEST, "loss")

    def bind(self, base: Base, label_names: list[str] | None) -> CommonsenseEncoder:
        """The task's encoder for a base."""
        special_ids, affixes = self._around_texts(base)
        return CommonsenseEncoder(task=self, base=base, special_ids=special_ids, affixes=affixes)

    def score(self, predictions: Sequence[Prediction], label_names: list[str] | None) -> dict[str, float]:
        """The share of right answers by either scoring; a text without an answer is wrong.

        Each of several tasks has its own figure (`accuracy.<task>`), and the average weighs all tasks equally. If the
        task of a row is unknown, the average is over rows.
        """
        answers = [answer for answer in predictions if isinstance(answer, CommonsensePrediction)]
        scores: dict[str, float] = {}
        if any(answer.loss is not None for answer in answers):
            scores["loss"] = mean_loss(answers)
        by_task: dict[str | None, list[CommonsensePrediction]] = {}
        known = all(answer.task is not None for answer in answers)
        for answer in answers:
            by_task.setdefault(answer.task if known else None, []).append(answer)
        ways: dict[str, Callable[[CommonsensePrediction], Any]] = {}
        if all(answer.text is not None for answer in answers):
            ways[GENERATED] = lambda answer: answer.prediction
        if all(answer.likeliest is not None for answer in answers):
            ways[LIKELIEST] = lambda answer: answer.likeliest
        for name, given in ways.items():
            shares = {
                task: sum(given(answer) == answer.label for answer in group) / len(group)
                for task, group in by_task.items()
            }
            scores[name] = math.fsum(shares.values()) / len(shares)
            if len(shares) > 1:
                scores |= {f"{name}.{task}": share for task, share in shares.items()}
        if GENERATED in ways:
            scores["no_answer"] = sum(answer.prediction is None for answer in answers)
        return scores


@dataclass(frozen=True, kw_only=True)
class CommonsenseEncoder(GenerationEncoder):
    """Questions -> batches -> the option named by a generated text, and the likeliest option."""

    task: CommonsenseTask

    def encode(self, rows: Rows) -> EncodedTexts:
        """As `GenerationEncoder.encode`.

        Raises:
            UserError: as there, or an answer does not fit into max_length.
        """
        encoded = super().encode(rows)
        if encoded.ends_cut:
            cut = [row for row in range(len(encoded)) if encoded.row(row)[-1] != self.special_ids.end]
            raise _too_long(rows, cut, self.base.max_length)
        return encoded

    def collate(self, encoded: Encoded, indices: NDArray[np.int64]) -> Any:
        """The rows `indices` of questions or of continuations, padded to the longest of them."""
        if isinstance(encoded, EncodedContinuations):
            return collate_continuations(encoded, indices, self.special_ids.padding)
        return super().collate(encoded, indices)

    def answer(self, encoded: Encoded, runner: ModelRunner, final: bool) -> list[Prediction]:
        """Generate texts and compute likelihoods: what `metric` needs, and with `final` also what `scoring` needs."""
        assert isinstance(encoded, EncodedTexts)
        rows, count = encoded.rows, len(encoded)
        wanted = {self.task.metric} | (set(_SCORINGS[self.task.scoring]) if final else set())
        options = rows.column("options")
        losses: Sequence[Prediction] = [Prediction(None, None)] * count
        if "loss" in wanted and encoded.labels is not None:
            losses = runner.forward(self._losses)
        likelihoods: Sequence[dict[str, float] | None] = [None] * count
        if LIKELIEST in wanted:
            likelihoods = self._likelihoods(rows, options, runner)
        texts: Sequence[Generated | None] = [None] * count
        if GENERATED in wanted:
            texts = self._generate(list(encoded.prompts), rows, runner, final)
        about = (rows.column(name) for name in ("answer", "prompt", "task"))
        columns = zip(losses, likelihoods, texts, options, *about, strict=True)
        return [
            CommonsensePrediction(
                prediction=None if text is None else self.task.read(text.text, offered or [label] * bool(label)),
                label=label,
                prompt=prompt,
                text=None if text is None else text.text,
                finished=None if text is None else text.finished,
                loss=loss.loss,
                tokens=loss.tokens,
                likeliest=None if likelihood is None else max(likelihood, key=likelihood.__getitem__),
                log_likelihoods=likelihood,
                task=task,
            )
            for loss, likelihood, text, offered, label, prompt, task in columns
        ]

    def show(self, encoded: Encoded, index: int) -> TokenPreview:
        assert isinstance(encoded, EncodedTexts)
        return replace(super().show(encoded, index), label=encoded.rows.column("answer")[index])

    def _likelihoods(self, rows: Rows, options: list[list[str] | None], runner: ModelRunner) -> list[dict[str, float]]:
        """Option -> log-likelihood for each row; the end token is not part of an option."""
        if None in options:
            unknown = options.index(None)
            raise UserError(
                "invalid-row",
                f"{rows.place(unknown)}: the instruction does not list its answers",
                hint="It should end with  Answer format: answer1/answer2  or similar; or use task.scoring=generation",
            )
        prompts: list[list[int]] = []
        continuations: list[list[list[int]]] = []
        questions = list(zip(self.marks.prompts(rows.column("prompt")), options, strict=True))
        for start in range(0, len(questions), _QUESTIONS_AT_ONCE):
            chunk = questions[start : start + _QUESTIONS_AT_ONCE]
            repeated = [prompt for prompt, offered in chunk for _ in offered or ()]
            fitted = iter(
                self.truncated(
                    repeated, [self.task.answer_prefix + option for _, offered in chunk for option in offered or ()]
                )
            )
            for index, (_, offered) in enumerate(chunk, start):
                parts = list(islice(fitted, len(offered or ())))
                if any(part.end_truncated for part in parts):
                    raise _too_long(rows, [index], self.base.max_length)
                prompts.append(min((part.prompt for part in parts), key=len))
                continuations.append([part.completion[:-1] for part in parts])
        found = log_likelihoods(prompts, continuations, runner.forward)
        return [
            dict(zip(offered or (), sums, strict=True)) for (_, offered), sums in zip(questions, found, strict=True)
        ]


def _too_long(rows: Rows, cut: Sequence[int], limit: int) -> UserError:
    """The error for commonsense questions whose answers do not fit into the maximum length."""
    return UserError(
        "too-long",
        f"{rows.source}: the answers of {len(cut):,} rows do not fit into {limit} tokens; the first is row "
        f"{rows.numbers(cut[:1])}",
        hint="Raise data.max_length.",
    )


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
