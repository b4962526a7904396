"""Texts -> token ids, without special tokens, at the speed of the tokenizer's own code.

A completion is tokenised as in running text, a prompt by itself. To tokenise nearly every text once, a prompt is cut
before its last word where that changes no token: its head is tokenised alone, and its last word with the completion.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

# The beginning of a text up to its last space between two letters; all of these are letters in any version of Unicode
_LETTER = "[A-Za-zÀ-ÖØ-öø-ɏА-я]"
_HEAD = re.compile(f".*{_LETTER}(?= {_LETTER})", re.DOTALL)

# Steps of tokenizers that see nothing across a space between two letters: no branch of the patterns matches a letter
# and a space after it, and only a run of spaces looks ahead.
_NORMALIZERS = {"NFC", "NFD", "NFKC", "NFKD", "Lowercase", "StripAccents", "BertNormalizer"}
_WORD_SPLITTERS = {"BertPreTokenizer", "Whitespace", "WhitespaceSplit"}
_OTHER_SPLITTERS = {"Digits", "Punctuation", "ByteLevel"}
_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_TIKTOKEN = (  # LLaMA 3, Qwen, and others with another rule for numbers
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|%s| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_PATTERNS = {_GPT2, *(_TIKTOKEN % numbers for numbers in (r"\p{N}", r"\p{N}+", r"\p{N}{1,3}"))}


def token_ids(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[list[int]]:
    """The token ids of texts: `tokenizer(texts, add_special_tokens=False)["input_ids"]`, but nothing else is made."""
    texts = list(texts)
    if not texts:
        return []
    if not _has_own_code(tokenizer):
        return list(tokenizer(texts, add_special_tokens=False)["input_ids"])
    backend = tokenizer.backend_tokenizer
    backend.no_truncation()
    backend.no_padding()
    backend.encode_special_tokens = tokenizer.split_special_tokens
    return [encoding.ids for encoding in backend.encode_batch_fast(texts, add_special_tokens=False)]


def running_ids(
    tokenizer: PreTrainedTokenizerBase, prompts: Sequence[str], completions: Sequence[str]
) -> tuple[list[list[int]], list[list[int]]]:
    """The token ids of prompts, and of completions that continue them.

    A completion is tokenised together with its prompt, as in running text, if the prompt's own tokens are a prefix of
    the result; otherwise alone. `prompts` is tokenised as by `token_ids`.
    """
    cuts = [0] * len(prompts)
    if words_are_apart(tokenizer):
        cuts = [match.end() if (match := _HEAD.match(prompt)) else 0 for prompt in prompts]
    cut_rows = [row for row, cut in enumerate(cuts) if cut]
    heads: list[list[int]] = [[]] * len(prompts)
    for row, ids in zip(cut_rows, token_ids(tokenizer, [prompts[row][: cuts[row]] for row in cut_rows]), strict=True):
        heads[row] = ids
    tails = [prompt[cut:] for prompt, cut in zip(prompts, cuts, strict=True)]
    distinct = list(dict.fromkeys(tails))
    ids_of = dict(zip(distinct, token_ids(tokenizer, distinct), strict=True))
    together = token_ids(tokenizer, [tail + text for tail, text in zip(tails, completions, strict=True)])
    answers = [
        both[len(ids_of[tail]) :] if both[: len(ids_of[tail])] == ids_of[tail] else None
        for tail, both in zip(tails, together, strict=True)
    ]
    apart = [row for row, answer in enumerate(answers) if answer is None]
    alone = dict(zip(apart, token_ids(tokenizer, [completions[row] for row in apart]), strict=True))
    return (
        [head + ids_of[tail] for head, tail in zip(heads, tails, strict=True)],
        [alone[row] if answer is None else answer for row, answer in enumerate(answers)],
    )


def words_are_apart(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether a text's tokens are those of its two parts, wherever it is cut before a space between two letters.

    This is known from the tokenizer's steps; False if one of them is not known.
    """
    if not _has_own_code(tokenizer):
        return False
    backend = tokenizer.backend_tokenizer
    for token in tokenizer.added_tokens_decoder.values():
        letters = any(char.isalpha() for char in (token.content[:1] + token.content[-1:]))
        spans = any(char.isspace() for char in token.content) and any(char.isalpha() for char in token.content)
        if spans or (letters and (token.lstrip or token.rstrip)):
            return False
    if getattr(backend.model, "dropout", None) or any(
        step["type"] not in _NORMALIZERS for step in _steps(backend.normalizer, "normalizers")
    ):
        return False
    kinds = [_splits_words(step) for step in _steps(backend.pre_tokenizer, "pretokenizers")]
    return None not in kinds and True in kinds


def _has_own_code(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether texts become token ids by the tokenizers library alone: no class overrides the tokenizer's call."""
    kind = type(tokenizer)
    return (
        isinstance(tokenizer, PreTrainedTokenizerFast)
        and kind._encode_plus is PreTrainedTokenizerFast._encode_plus
        and kind.__call__ is PreTrainedTokenizerFast.__call__
    )


def _steps(component: Any, parts: str) -> list[dict[str, Any]]:
    """The settings of a normalizer or pre-tokenizer, of each step of a sequence."""
    if component is None:
        return []
    settings = json.loads(component.__getstate__())
    return settings[parts] if settings["type"] == "Sequence" else [settings]


def _splits_words(step: dict[str, Any]) -> bool | None:
    """Whether a tokenizer's step splits before a space, where a prompt is cut; None: it may look across it."""
    if step["type"] == "Split":
        return True if step["pattern"].get("Regex") in _PATTERNS and step["behavior"] == "Isolated" else None
    if step["type"] == "ByteLevel":
        return None if step["add_prefix_space"] else bool(step["use_regex"])
    if step["type"] in _WORD_SPLITTERS:
        return True
    return False if step["type"] in _OTHER_SPLITTERS else None
