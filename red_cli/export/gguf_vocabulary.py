"""The vocabulary of a GGUF file: a tokenizer's tokens, merges and splitting of words by llama.cpp's names."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

from red_cli.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_SPACE = "▁"
_BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
_DIGITS = "single digits"
_GPT2 = "GPT-2"
_LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
# How words are split, and whether whole words are looked up before their merges -> llama.cpp's name
_PRE_TOKENIZERS = {
    ((_GPT2,), False): "gpt-2",
    ((_DIGITS, _GPT2), False): "smollm",
    ((_LLAMA3,), True): "llama-bpe",
    ((_LLAMA3,), False): "dbrx",
    ((_LLAMA3.replace("{1,3}", ""),), False): "qwen2",
}


@dataclass(frozen=True)
class Vocabulary:
    """A tokenizer in GGUF's terms.

    Attributes:
        model: llama.cpp's name of the algorithm: gpt2 (byte-level BPE) or llama (SentencePiece).
        pre: llama.cpp's name of the pattern that splits words.
        kinds: gguf's name of each token's type.
        scores: of the tokens, for SentencePiece; a higher one merges first.
        merges: for byte-level BPE; the first merges first.
        space_prefix: whether a space is put before a text.
        remark: what llama.cpp does otherwise; may be empty.
    """

    model: str
    pre: str
    tokens: list[str]
    kinds: list[str]
    scores: list[float] | None = None
    merges: list[str] | None = None
    space_prefix: bool | None = None
    remark: str = ""


def read_vocabulary(tokenizer: PreTrainedTokenizerBase, size: int) -> Vocabulary:
    """The vocabulary of a tokenizer, filled up to the `size` rows of the embeddings.

    Raises:
        UserError: llama.cpp has no equal of this tokenizer.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise _refused("it has no tokenizer.json")
    content = json.loads(backend.to_str())
    model, added = content["model"], {token["id"]: token for token in content["added_tokens"]}
    if model["type"] != "BPE":
        raise _refused(f"its model is {model['type']}; GGUF files of red hold BPE")
    tokens = {index: token for token, index in model["vocab"].items()}
    tokens |= {index: token["content"] for index, token in added.items()}
    kinds = [_kind(index, tokens, added, model) for index in range(size)]
    names = [tokens.get(index, f"[PAD{index}]") for index in range(size)]
    splits = list(_steps(content["pre_tokenizer"]))
    if any(step["type"] == "ByteLevel" for step in splits):
        return _byte_level(content, splits, names, kinds)
    return _sentencepiece(content, splits, names, kinds)


def _kind(index: int, tokens: Mapping[int, str], added: Mapping[int, Any], model: Mapping[str, Any]) -> str:
    """gguf's name of a token's type."""
    if index not in tokens:
        return "UNUSED"
    if tokens[index] == model.get("unk_token"):
        return "UNKNOWN"
    if index in added:
        return "CONTROL" if added[index]["special"] else "USER_DEFINED"
    return "BYTE" if model["byte_fallback"] and tokens[index] in _BYTES else "NORMAL"


def _steps(part: Mapping[str, Any] | None) -> Iterator[Mapping[str, Any]]:
    """The steps of a normaliser or of a pre-tokenizer of the vocabulary, in order."""
    if part is None:
        return
    nested = part.get("pretokenizers") or part.get("normalizers")
    if nested is None:
        yield part
    for inner in nested or ():
        yield from _steps(inner)


def _byte_level(
    content: Mapping[str, Any], splits: Sequence[Mapping[str, Any]], tokens: list[str], kinds: list[str]
) -> Vocabulary:
    """The vocabulary of a byte-level BPE tokenizer."""
    model = content["model"]
    if any(step.get("add_prefix_space") for step in splits):
        raise _refused("it puts a space before a text (add_prefix_space)")
    normalizers = [step["type"] for step in _steps(content["normalizer"])]
    if others := [name for name in normalizers if name != "NFC"]:
        raise _refused(f"it changes texts by {others[0]}")
    names = tuple(name for step in splits if (name := _pattern(step)) is not None)
    pre = _PRE_TOKENIZERS.get((names, bool(model.get("ignore_merges"))))
    if pre is None:
        raise _refused(f"llama.cpp has no name that red knows for how it splits words: {names}")
    remark = "llama.cpp does not bring texts into Unicode's form NFC, as the tokenizer does" if normalizers else ""
    return Vocabulary("gpt2", pre, tokens, kinds, merges=[" ".join(pair) for pair in _merges(model)], remark=remark)


def _pattern(step: Mapping[str, Any]) -> str | None:
    """What a step of a byte-level vocabulary splits at; None if it splits nothing."""
    if step["type"] == "ByteLevel":
        return _GPT2 if step["use_regex"] else None
    if step["type"] == "Digits" and step["individual_digits"]:
        return _DIGITS
    if step["type"] == "Split" and (step["behavior"], step["invert"]) in (("Isolated", False), ("Removed", True)):
        return str(step["pattern"].get("Regex"))
    return str(step["type"])


def _merges(model: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The merges of a BPE vocabulary as pairs; earlier files have each as one text."""
    pairs = [merge.split(" ") if isinstance(merge, str) else merge for merge in model["merges"]]
    return [(first, second) for first, second in pairs]


def _sentencepiece(
    content: Mapping[str, Any], splits: Sequence[Mapping[str, Any]], tokens: list[str], kinds: list[str]
) -> Vocabulary:
    """The vocabulary of a BPE tokenizer made by SentencePiece, or one of its kind."""
    if missing := [byte for byte in _BYTES if byte not in content["model"]["vocab"]]:
        raise _refused(f"it is neither byte-level nor has it tokens of bytes, such as {missing[0]}")
    schemes = {_space_scheme(step) for step in (*_steps(content["normalizer"]), *splits)} - {""}
    if unknown := schemes - {"every", "first", "never"}:
        raise _refused(f"it changes texts by {unknown.pop()}")
    pairs = list(zip(tokens, kinds, strict=True))
    ranks = _ranks(_merges(content["model"]), {token for token, kind in pairs if kind == "NORMAL"})
    scores = [-float(ranks.get(token, 0)) if kind == "NORMAL" else 0.0 for token, kind in pairs]
    written = [token.replace(_SPACE, " ") if kind == "USER_DEFINED" else token for token, kind in pairs]
    remarks = []
    if "first" in schemes:
        remarks.append("llama.cpp puts a space after each special token, the tokenizer only before a text")
    if any(token["rstrip"] or token["lstrip"] for token in content["added_tokens"]):
        remarks.append("llama.cpp keeps spaces at special tokens that the tokenizer drops (lstrip, rstrip)")
    return Vocabulary(
        "llama", "default", written, kinds, scores, space_prefix=bool(schemes & {"every", "first"}),
        remark="; ".join(remarks),
    )  # fmt: skip


def _space_scheme(step: Mapping[str, Any]) -> str:
    """Where a step of a SentencePiece vocabulary puts a space before a text; empty if it does not, or its type."""
    if step["type"] == "Prepend" and step["prepend"] == _SPACE:
        return "every"
    if step["type"] == "Replace" and (step["pattern"].get("String"), step["content"]) == (" ", _SPACE):
        return ""
    if step["type"] == "Metaspace" and step["replacement"] == _SPACE and not step.get("split", True):
        return {"always": "every"}.get(step["prepend_scheme"], step["prepend_scheme"])
    return str(step["type"])


def _ranks(merges: Iterable[tuple[str, str]], texts: set[str]) -> dict[str, int]:
    """The rank of each merged token of a vocabulary.

    SentencePiece joins any two pieces whose text is a token, the best token first. Merges amount to that if they hold
    each pair of tokens that makes a token, and all pairs of a token stand together.

    Raises:
        UserError: they do not.
    """
    merges = list(merges)
    results = [result for result, _ in groupby(first + second for first, second in merges)]
    ranks = {result: rank for rank, result in enumerate(results)}
    pairs = set(merges)
    parts = ((text[:at], text[at:]) for text in texts for at in range(1, len(text)))
    left_out = next((pair for pair in parts if pair[0] in texts and pair[1] in texts and pair not in pairs), None)
    if len(ranks) < len(results) or left_out is not None:
        raise _refused("its merges are not those of SentencePiece" + (f": not {left_out}" if left_out else ""))
    return ranks


def _refused(why: str) -> UserError:
    """The error for a tokenizer that a GGUF file cannot hold."""
    return UserError(
        "unsupported-tokenizer",
        f"no GGUF file can hold this base's tokenizer: {why}",
        hint="Export ordinary weights (--format merged), and try llama.cpp's own convert_hf_to_gguf.py on them.",
    )
