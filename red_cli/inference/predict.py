"""Predict a split by forward passes over batches, by generation, or both, as its task needs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from torch import nn

from red_cli.errors import RunFailed
from red_cli.inference.generate import Decoder, ResumableOutput
from red_cli.inference.runtime import Runtime
from red_cli.inference.shared_rows import NEVER_STOP, SharedRows, StopSignal
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
    stop: StopSignal = NEVER_STOP,
) -> list[Prediction]:
    """Predict every row of a split, in the rows' order.

    Args:
        micro_batch_size: rows of a training micro-batch; without eval.batch_size a forward pass takes twice as many.
        final: whether to predict for all metrics, or only for `task.metric`.
        resumable: stores texts while they are generated.
        stop: ends the prediction between batches, by raising on all ranks.
    """
    runner = model_runner(encoder, encoded, runtime, micro_batch_size=micro_batch_size, resumable=resumable, stop=stop)
    return encoder.answer(encoded, runner, final)


def model_runner(
    encoder: Encoder,
    encoded: Encoded,
    runtime: Runtime,
    *,
    micro_batch_size: int,
    resumable: ResumableOutput | None = None,
    stop: StopSignal = NEVER_STOP,
) -> ModelRunner:
    """What runs the model over a split to predict it. The arguments are those of `predict`."""
    return _Predictor(runtime, encoder, encoded, evaluation_batch_size(runtime, micro_batch_size), resumable, stop)


def evaluation_batch_size(runtime: Runtime, micro_batch_size: int) -> int:
    """The rows of a forward pass that predicts, by those of a training micro-batch."""
    return runtime.recipe.eval.batch_size or _TRAINING_TO_EVALUATION * micro_batch_size


@dataclass(frozen=True)
class _Predictor:
    """The `tasks.base.ModelRunner` of a split."""

    runtime: Runtime
    encoder: Encoder
    encoded: Encoded
    batch_size: int
    resumable: ResumableOutput | None
    stop: StopSignal

    @property
    def context(self) -> int:
        return self.runtime.context

    def generate(self, prompts: Sequence[Sequence[int]], ends: SpecialIds, max_new_tokens: int) -> list[Generated]:
        options = self.runtime.recipe.eval.generation
        assert options is not None
        decoder = Decoder(self.runtime, options, self.resumable, self.stop)
        return decoder.generate(prompts, ends, max_new_tokens)

    def note(self, text: str) -> None:
        self.runtime.listener.note(text)

    def forward(self, predict: Callable[[nn.Module, Any], list[T]], encoded: Encoded | None = None) -> list[T]:
        """Apply `predict` to batches of all rows; the results are in the rows' order. Each rank takes a share."""
        runtime, model = self.runtime, self.runtime.model
        encoded = self.encoded if encoded is None else encoded

        def compute(rows: Sequence[int]) -> list[T]:
            with runtime.skipping_prefix(encoded, [[row] for row in rows]), runtime.without_gradients():
                return predict(model, self.encoder.collate(encoded, np.array(rows)).to(model.device))

        return forward_rows(runtime, encoded, compute, self.batch_size, self.stop)


def forward_rows(
    runtime: Runtime,
    encoded: Encoded,
    compute: Callable[[Sequence[int]], Sequence[T]],
    batch_size: int,
    stop: StopSignal = NEVER_STOP,
) -> list[T]:
    """Predict all rows, or compute something else for them, in batches; the results are in the rows' order.

    Each rank takes a share. The model is in evaluation mode meanwhile.

    Args:
        compute: the results of some rows.
    """
    model = runtime.model
    order = np.argsort(-encoded.lengths, kind="stable").tolist()
    done = 0

    def show(rows: int) -> None:
        nonlocal done
        done = min(done + rows, len(order))
        runtime.listener.evaluating(done, len(order))

    work = SharedRows(
        processes=runtime.processes,
        compute=compute,
        summary=len,
        done=show,
        lockstep=runtime.sharded,
        not_even_one=_not_even_one,
        stop=stop,
    )
    was_training = model.training
    model.eval()
    try:
        answers = work.results(order, batch_size)
    finally:
        model.train(was_training)
    return [answers[row] for row in range(len(encoded))]


def _not_even_one() -> RunFailed:
    hint = "Lower data.max_length, or use a smaller base."
    return RunFailed("out-of-memory", "not even one row fits into memory", hint=hint)
