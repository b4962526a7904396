"""Predict a split by forward passes over batches, by generation, or both, as its task needs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from torch import nn

from red_cli.base_model.peak_memory import out_of_memory
from red_cli.inference.generate import Decoder, ResumableOutput, no_check
from red_cli.inference.runtime import Runtime
from red_cli.tasks.base import Encoded, Encoder, Generated, ModelRunner, Prediction
from red_cli.tasks.special_ids import SpecialIds

T = TypeVar("T")
_TRAINING_TO_EVALUATION = 2  # twice as many rows fit, since no activations are kept


def predict(
    encoder: Encoder,
    encoded: Encoded,
    runtime: Runtime,
    *,
    micro_batch_size: int,
    final: bool,
    resumable: ResumableOutput | None = None,
    check: Callable[[], None] = no_check,
) -> list[Prediction]:
    """Predict every row of a split, in the rows' order.

    Args:
        micro_batch_size: rows of a training micro-batch; without eval.batch_size a forward pass takes twice as many.
        final: whether to predict for all metrics, or only for `task.metric`.
        resumable: stores texts while they are generated.
        check: called between batches in all ranks; an exception ends the prediction.
    """
    runner = model_runner(
        encoder, encoded, runtime, micro_batch_size=micro_batch_size, resumable=resumable, check=check
    )
    return encoder.answer(encoded, runner, final)


def model_runner(
    encoder: Encoder,
    encoded: Encoded,
    runtime: Runtime,
    *,
    micro_batch_size: int,
    resumable: ResumableOutput | None = None,
    check: Callable[[], None] = no_check,
) -> ModelRunner:
    """What runs the model over a split to predict it. The arguments are those of `predict`."""
    size = runtime.recipe.eval.batch_size or _TRAINING_TO_EVALUATION * micro_batch_size
    return _Predictor(runtime, encoder, encoded, size, resumable, check)


@dataclass(frozen=True)
class _Predictor:
    """The `tasks.base.ModelRunner` of a split."""

    runtime: Runtime
    encoder: Encoder
    encoded: Encoded
    batch_size: int
    resumable: ResumableOutput | None
    check: Callable[[], None]

    @property
    def context(self) -> int:
        return self.runtime.context

    def generate(self, prompts: Sequence[Sequence[int]], ends: SpecialIds, max_new_tokens: int) -> list[Generated]:
        options = self.runtime.recipe.eval.generation
        assert options is not None
        decoder = Decoder(self.runtime, options, self.resumable, self.check)
        return decoder.generate(prompts, ends, max_new_tokens)

    def note(self, text: str) -> None:
        self.runtime.listener.note(text)

    def forward(self, predict: Callable[[nn.Module, Any], list[T]], encoded: Encoded | None = None) -> list[T]:
        """Apply `predict` to batches of all rows; the results are in the rows' order.

        The longest rows come first, so that memory runs out at once or never; then the batch size is halved. Each rank
        takes a share of the rows, in as many batches as the others.
        """
        model, processes, batch_size = self.runtime.model, self.runtime.processes, self.batch_size
        encoded = self.encoded if encoded is None else encoded
        order = np.argsort(-encoded.lengths, kind="stable").tolist()
        mine = processes.shard(order)
        found: dict[int, T] = {}
        was_training = model.training
        model.eval()
        done = 0
        try:
            while done < len(mine):
                rows = np.array(mine[done : done + batch_size])
                failed, predictions = None, list[T]()
                try:
                    with self.runtime.without_gradients():
                        predictions = predict(model, self.encoder.collate(encoded, rows).to(model.device))
                except RuntimeError as error:
                    if not out_of_memory(error) or batch_size == 1:
                        raise
                    failed = error
                if any(processes.any_rank(failed is not None)):
                    batch_size = -(-batch_size // 2)
                    continue
                found.update(zip(rows.tolist(), predictions, strict=True))
                done += len(rows)
                self.check()
                self.runtime.listener.evaluating(min(done * processes.count, len(order)), len(order))
        finally:
            model.train(was_training)
        answers = {row: answer for part in processes.gather(found) for row, answer in part.items()}
        return [answers[row] for row in range(len(encoded))]
