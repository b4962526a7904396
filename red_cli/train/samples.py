"""The samples of a run: some prompts of the selection split, the same ones answered at each evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from red_cli.inference.generate import Decoder
from red_cli.inference.runtime import Runtime
from red_cli.inference.shared_rows import StopSignal
from red_cli.plan.prepare import Prepared
from red_cli.tasks.base import Prediction
from red_cli.tasks.text.encoded_texts import EncodedTexts
from red_cli.tasks.text.encoder import TextEncoder
from red_cli.train.events import Sample


@dataclass(frozen=True)
class SamplePrompts:
    """The prompts of the samples.

    Attributes:
        rows: their indices in the selection split.
        ids: the token ids of each prompt.
        max_new_tokens: most tokens of an answer.
    """

    encoder: TextEncoder
    rows: Sequence[int]
    prompts: Sequence[str]
    labels: Sequence[str | None]
    ids: Sequence[Sequence[int]]
    max_new_tokens: int

    def answers(self, predictions: Sequence[Prediction], runtime: Runtime, stop: StopSignal) -> list[Sample]:
        """Answer the prompts, by the evaluation's own texts if it generated any. All ranks call it.

        Nothing that training draws or computes depends on it.
        """
        texts = [predictions[row].prediction for row in self.rows]
        if None in texts:
            options = runtime.recipe.eval.generation
            assert options is not None
            decoder = Decoder(runtime, options, stop=stop)
            texts = [each.text for each in decoder.generate(self.ids, self.encoder.special_ids, self.max_new_tokens)]
        return [Sample(*each) for each in zip(self.prompts, map(str, texts), self.labels, strict=True)]


def choose_samples(prepared: Prepared, count: int, context: int) -> SamplePrompts | None:
    """Choose `count` rows of the selection split, evenly spaced, or all if there are fewer; None for 0.

    Args:
        context: the most tokens that the base takes at once.

    Raises:
        UserError: an answer and its prompt do not fit into the base's context.
    """
    if count == 0:
        return None
    encoder, encoded = prepared.encoder, prepared.encoded[prepared.task.validation_splits[0]]
    assert isinstance(encoder, TextEncoder)  # the recipe has eval.samples only for such tasks
    assert isinstance(encoded, EncodedTexts)
    total = len(encoded)
    count = min(count, total)
    rows = [place * total // count for place in range(count)]
    prompts = [encoded.prompts[row] for row in rows]
    labels = [None] * count if encoded.completions is None else [encoded.completions[row] for row in rows]
    fitted = encoder.prompts_to_answer(prompts, encoded.rows.take(rows), context)
    return SamplePrompts(encoder, rows, prompts, labels, fitted.ids, fitted.max_new_tokens)
