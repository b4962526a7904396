"""Token ids that stand for no word: padding, the end of a text, the start of a decoder, what frames a text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from transformers import PretrainedConfig, PreTrainedTokenizerBase

from red_cli.edit.kinds import ModelKind
from red_cli.errors import UserError, shown

_PROBE = "a"


@dataclass(frozen=True)
class SpecialIds:
    """Token ids around texts that are generated.

    Attributes:
        end: the last token of a complete text.
        padding: fills batches.
        decoder_start: what an encoder-decoder's decoder begins with; None for a decoder alone.
    """

    end: int
    padding: int
    decoder_start: int | None = None


@dataclass(frozen=True)
class Affixes:
    """The token ids that a tokenizer puts before and after every text."""

    before: list[int]
    after: list[int]

    def __len__(self) -> int:
        return len(self.before) + len(self.after)


def padding_id(tokenizer: PreTrainedTokenizerBase) -> int:
    """The id that fills batches: the tokenizer's own, or its end of a text, which no text has inside it."""
    for token_id in (tokenizer.pad_token_id, tokenizer.eos_token_id, tokenizer.sep_token_id):
        if token_id is not None:
            return int(token_id)
    return 0


def find_special_ids(
    tokenizer: PreTrainedTokenizerBase, config: PretrainedConfig, kind: ModelKind, end_token: str | None
) -> SpecialIds:
    """The ids around texts of a tokenizer and its model; `end_token` names the end where the tokenizer's is not meant.

    Raises:
        UserError: there is no such token, none that could end a text, or nothing that a decoder starts with.
    """
    start = getattr(config, "decoder_start_token_id", None) if kind.encoder_decoder else None
    if kind.encoder_decoder and start is None:
        raise UserError(
            "unsupported-model",
            f"{config._name_or_path}: the configuration does not say what the decoder starts with",
            hint="Set decoder_start_token_id in the model's config.json.",
        )
    return SpecialIds(_end_id(tokenizer, config, end_token), padding_id(tokenizer), start)


def _end_id(tokenizer: PreTrainedTokenizerBase, config: PretrainedConfig, end_token: str | None) -> int:
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
        "the tokenizer has no token that ends a text",
        hint="Name one of its tokens to serve as such: task.end_token=…",
    )


def find_affixes(tokenizer: PreTrainedTokenizerBase) -> Affixes:
    """What the tokenizer puts around a text, found by trying."""
    bare = tokenizer(_PROBE, add_special_tokens=False)["input_ids"]
    framed = tokenizer(_PROBE)["input_ids"]
    for start in range(len(framed) - len(bare) + 1):
        if framed[start : start + len(bare)] == bare:
            return Affixes(framed[:start], framed[start + len(bare) :])
    return Affixes([], [])


def decoded(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> str:
    """The text of ids as it stands, without special tokens and outer spaces."""
    text: str = tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    return text.strip()
