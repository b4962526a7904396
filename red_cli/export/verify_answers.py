"""Generate one answer with the adapter and with the exported model, and see both stop at the same place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformers import GenerationConfig, PreTrainedModel

from red_cli.base_model.positions import longest_sequence
from red_cli.errors import RunFailed
from red_cli.inference.generate import eval_mode, generation_config
from red_cli.recipe.sections import Decoding
from red_cli.tasks.base import Base, Encoded
from red_cli.tasks.special_ids import SpecialIds
from red_cli.tasks.text.encoded_texts import EncodedTexts

_FEWEST_TOKENS, _MOST_TOKENS = 16, 256  # of the answer


@dataclass(frozen=True)
class Question:
    """A prompt as the run trained it, and the most tokens of its answer: twice those of its completion."""

    prompt: list[int]
    special_ids: SpecialIds
    most_tokens: int

    @classmethod
    def of(cls, encoded: Encoded, base: Base, special_ids: SpecialIds | None) -> Question | None:
        """The question of the row with the shortest answer; None for a task without texts, or if none fits."""
        if special_ids is None or not isinstance(encoded, EncodedTexts):
            return None
        answers = encoded.lengths - encoded.prompt_lengths
        row = int(np.argmin(answers if encoded.labels is not None else encoded.prompt_lengths))
        prompt = encoded.parts(row)[0].tolist()
        room = longest_sequence(base.config, base.tokenizer) - (0 if base.kind.encoder_decoder else len(prompt))
        most = min(max(2 * int(answers[row]), _FEWEST_TOKENS), _MOST_TOKENS, room)
        return cls(prompt, special_ids, most) if prompt and most > 0 else None

    @torch.inference_mode()
    def by_red(self, model: PreTrainedModel) -> list[int]:
        """The answer as `red eval` generates it: up to the end that the run trained."""
        return self._generate(model, generation_config(Decoding(), self.special_ids, self.most_tokens))

    @torch.inference_mode()
    def by_transformers(self, model: PreTrainedModel) -> list[int]:
        """The answer of plain transformers: up to an end in the model's own files, without their other options."""
        own = model.generation_config
        names = ("eos_token_id", "pad_token_id", "decoder_start_token_id")
        ends = {name: getattr(own, name) for name in names}
        return self._generate(model, GenerationConfig(max_new_tokens=self.most_tokens, **ends))

    def _generate(self, model: PreTrainedModel, config: GenerationConfig) -> list[int]:
        ids = torch.tensor([self.prompt])
        with eval_mode(model):
            found = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), generation_config=config)
        start = 1 if self.special_ids.decoder_start is not None else len(self.prompt)
        written: list[int] = found[0, start:].tolist()
        return written


def compare_answers(
    question: Question, expected: list[int], model: PreTrainedModel, tolerance: float
) -> dict[str, Any]:
    """Generate an answer with the exported model and compare it with the adapter's answer, `expected`.

    Args:
        tolerance: the largest difference of logits by rounding, relative to the largest logit.

    Returns:
        "tokens" of the exported model's answer, whether it "ended" before the most tokens, and whether it is "equal".
        Answers may differ where two tokens are equally likely up to rounding, and the exported model may stop earlier
        at an end of the base's own.

    Raises:
        RunFailed: the exported model generates more after the end, or another text.
    """
    found = question.by_transformers(model)
    end = question.special_ids.end
    stops = model.generation_config.eos_token_id
    stops = stops if isinstance(stops, list) else [stops]
    same = next((at for at, (a, b) in enumerate(zip(expected, found, strict=False)) if a != b), None)
    result = {"tokens": len(found), "ended": found[-1] in stops, "equal": found == expected}
    if end not in stops or (same is None and len(found) > len(expected)):
        raise RunFailed(
            "verification-failed",
            f"the exported model generates more after its answer: it does not stop at token {end}; nothing was written",
        )
    if same is not None:
        _require_tie(question, expected, found[:same], model, tolerance)
    elif len(found) < len(expected) and not result["ended"]:
        raise RunFailed("verification-failed", "the exported model's answer breaks off; nothing was written")
    return result


@torch.inference_mode()
def _require_tie(
    question: Question, expected: list[int], common: list[int], model: PreTrainedModel, tolerance: float
) -> None:
    """Check that the next token of `expected` after `common` is as likely as the likeliest, up to rounding."""
    start = question.special_ids.decoder_start
    if start is None:
        logits = model(torch.tensor([[*question.prompt, *common]])).logits[0, -1].float()
    else:
        decoded = torch.tensor([[start, *common]])
        logits = model(torch.tensor([question.prompt]), decoder_input_ids=decoded).logits[0, -1].float()
    gap = (logits.max() - logits[expected[len(common)]]).item()
    if not gap <= tolerance * max(1.0, logits.abs().max().item()):
        raise RunFailed(
            "verification-failed",
            f"the exported model answers differently from the adapter after {len(common)} tokens; nothing was written",
        )
