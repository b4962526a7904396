"""Special token ids: padding, end of text, decoder start, and the affixes of every text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from transformers import PretrainedConfig, PreTrainedTokenizerBase

from red_cli.edit.model_kinds import ModelKind
from red_cli.errors import UserError, shown

_PROBE = "a"


@dataclass(frozen=True)
class SpecialIds:
    """Special token ids for generation.

    Attributes:
        end: the last token of a complete text.
        padding: the padding of batches.
        decoder_start: the first token of an encoder-decoder's decoder; None for decoder-only models.
    """

    end: int
    padding: int
    decoder_start: int | None = None


@dataclass(frozen=True)
class Affixes:
    """Token ids that a tokenizer puts before and after every text."""

    before: list[int]
    after: list[int]

    def __len__(self) -> int:
        return len(self.before) + len(self.after)


def padding_id(tokenizer: PreTrainedTokenizerBase) -> int:
    """The padding id: the tokenizer's own, else its end token, which does not occur inside a text."""
    for token_id in (tokenizer.pad_token_id, tokenizer.eos_token_id, tokenizer.sep_token_id):
        if token_id is not None:
            return int(token_id)
    return 0


def find_special_ids(
    tokenizer: PreTrainedTokenizerBase, config: PretrainedConfig, kind: ModelKind, end_token: str | None
) -> SpecialIds:
    """The special ids of a tokenizer and its model; `end_token` replaces the tokenizer's own end token.

    Raises:
        UserError: the tokenizer does not have `end_token` or any end token, or the decoder start is not configured.
    """
    start = getattr(config, "decoder_start_token_id", None) if kind.encoder_decoder else None
    if kind.encoder_decoder and start is None:
        raise UserError(
            "unsupported-model",
            f"{config._name_or_path}: the configuration has no decoder_start_token_id",
            hint="Set it in the model's config.json.",
        )
    return SpecialIds(_end_id(tokenizer, config, end_token), padding_id(tokenizer), start)


def _end_id(tokenizer: PreTrainedTokenizerBase, config: PretrainedConfig, end_token: str | None) -> int:
    """The id of the end token: the recipe's, or else the tokenizer's or the configuration's."""
    if end_token is not None:
        if end_token not in tokenizer.get_vocab():
            raise UserError("unsupported-tokenizer", f"task.end_token: the tokenizer has no token {shown(end_token)}")
        return int(tokenizer.convert_tokens_to_ids(end_token))
    configured = config.eos_token_id
    first = configured[0] if isinstance(configured, list) and configured else configured
    for token_id in (tokenizer.eos_token_id, first, tokenizer.sep_token_id):
        if token_id is not None and token_id < len(tokenizer):
            return int(token_id)
    raise UserError(
        "unsupported-tokenizer",
        "the tokenizer has no end token",
        hint="Choose one of its tokens: task.end_token=…",
    )


def find_affixes(tokenizer: PreTrainedTokenizerBase) -> Affixes:
    """The special token ids that a tokenizer puts around every text, its affixes, found with a short text."""
    bare = tokenizer(_PROBE, add_special_tokens=False)["input_ids"]
    framed = tokenizer(_PROBE)["input_ids"]
    for start in range(len(framed) - len(bare) + 1):
        if framed[start : start + len(bare)] == bare:
            return Affixes(framed[:start], framed[start + len(bare) :])
    return Affixes([], [])


def text_without_special_ids(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> str:
    """The text of token ids, without the special ids and outer spaces."""
    text: str = tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    return text.strip()
