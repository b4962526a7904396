"""Have a model answer a split: by forward passes over batches, by generation, or both, as the task says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from red_cli.base_model.memory import out_of_memory
from red_cli.base_model.prepare import longest_sequence, uses_bf16
from red_cli.distributed.processes import Processes
from red_cli.inference.generate import Decoder, Partial
from red_cli.recipe.schema import Recipe
from red_cli.runs.events import Listener
from red_cli.tasks.base import Encoded, Generated, Prediction, Task
from red_cli.tasks.text.tokens import Ends

T = TypeVar("T")
_TRAINING_TO_EVALUATION = 2  # without activations to keep, twice as many rows fit


@dataclass(frozen=True)
class Answering:
    """How a model is to answer splits.

    Attributes:
        batch_size: rows at once in a forward pass.
        decoder: generates texts, in tasks that do.
        context: the most tokens that the base takes at once.
        processes: those that share the rows.
        sharded: whether each of them holds a part of the base only.
        tick: told (rows done, rows in all) after each batch of a forward pass.
        note: told what the user should see.
    """

    model: PreTrainedModel
    batch_size: int
    decoder: Decoder | None
    context: int
    processes: Processes
    sharded: bool
    tick: Callable[[int, int], None]
    note: Callable[[str], None]


def predict(task: Task, encoded: Encoded, answering: Answering, final: bool) -> list[Prediction]:
    """The model's answer to every row, in the rows' order; `final` asks for all that can be said."""
    return task.answer(encoded, _Passes(task, encoded, answering), final)


@dataclass(frozen=True)
class _Passes:
    """What tasks see of a model: `tasks.base.Passes`."""

    task: Task
    encoded: Encoded
    answering: Answering

    @property
    def context(self) -> int:
        return self.answering.context

    def generate(self, prompts: Sequence[Sequence[int]], ends: Ends, max_new_tokens: int) -> list[Generated]:
        decoder = self.answering.decoder
        assert decoder is not None
        return decoder.generate(prompts, ends, max_new_tokens)

    def note(self, text: str) -> None:
        self.answering.note(text)

    def forward(self, predict: Callable[[nn.Module, Any], list[T]], encoded: Encoded | None = None) -> list[T]:
        """What `predict` says of batches, for all rows in their order.

        Rows go through longest first, so that memory runs out at once or never; then the batch size is halved. Of each
        batch only the answers are kept. Each process takes its share of the rows, all of them in as many batches.
        """
        answering, batch_size = self.answering, self.answering.batch_size
        model, processes = answering.model, answering.processes
        encoded = self.encoded if encoded is None else encoded
        order = np.argsort(-encoded.lengths, kind="stable").tolist()
        mine = processes.share_of(order)
        found: dict[int, T] = {}
        was_training = model.training
        model.eval()
        done = 0
        try:
            while done < len(mine):
                rows = np.array(mine[done : done + batch_size])
                failed, predictions = None, list[T]()
                try:
                    with forward_only(answering.sharded):
                        predictions = predict(model, self.task.collate(encoded, rows).to(model.device))
                except RuntimeError as error:
                    if not out_of_memory(error) or batch_size == 1:
                        raise
                    failed = error
                if any(processes.any(failed is not None)):
                    batch_size = -(-batch_size // 2)
                    continue
                found.update(zip(rows.tolist(), predictions, strict=True))
                done += len(rows)
                answering.tick(min(done * processes.count, len(order)), len(order))
        finally:
            model.train(was_training)
        answers = {row: answer for part in processes.gather(found) for row, answer in part.items()}
        return [answers[row] for row in range(len(encoded))]


def forward_only(sharded: bool) -> AbstractContextManager[Any]:
    """Without gradients; parts of a base are put together in tensors that may need them later."""
    return torch.no_grad() if sharded else torch.inference_mode()


def make_answering(
    recipe: Recipe,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    training_size: int,
    listener: Listener,
    processes: Processes,
    sharded: bool = False,
    partial: Partial | None = None,
    check: Callable[[], None] = lambda: None,
) -> Answering:
    """How a model answers as its recipe says; `check` is called between batches, in all processes, and may raise."""

    def telling(tell: Callable[[int, int], None]) -> Callable[[int, int], None]:
        def tick(done: int, total: int) -> None:
            check()
            tell(done, total)

        return tick

    decoder, options = None, recipe.eval.generation
    if options is not None:
        decoder = Decoder(
            model, tokenizer, options, recipe.eval.batch_size, recipe.train.seed,
            not uses_bf16(recipe.train) and not sharded, telling(listener.decoding), listener.note, partial,
            processes, sharded,
        )  # fmt: skip
    size = recipe.eval.batch_size or _TRAINING_TO_EVALUATION * training_size
    context = longest_sequence(model.config, tokenizer)
    return Answering(model, size, decoder, context, processes, sharded, telling(listener.evaluating), listener.note)
