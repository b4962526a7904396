"""Prompts and completions have the tokens that the tokenizer's own calls give, whatever its steps are."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from red_cli.tasks.text import token_ids as module
from red_cli.tasks.text.token_ids import running_ids, token_ids, words_are_apart

CORPUS = [
    "It's a film and the story is old, isn't it? I'll say 1234 times: no.",
    "def main():\n    return 'x  y'\n\nAnswer: yes   and no\n### Response:\n the end of the film",
    "Ein schöner Film über Größe und Öl; фильм был очень старый, и это всё.",
]
LLAMA3 = module._TIKTOKEN % r"\p{N}{1,3}"


def trained(model: object, trainer: Callable, normalizer: object, *steps: object, **options: object) -> Tokenizer:
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizer
    if steps:
        tokenizer.pre_tokenizer = steps[0] if len(steps) == 1 else pre_tokenizers.Sequence(list(steps))
    tokenizer.train_from_iterator(CORPUS * 3, trainer(vocab_size=400, show_progress=False, **options))
    return tokenizer


def byte_level(normalizer: object, *steps: object) -> Tokenizer:
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    made = trained(models.BPE(), trainers.BpeTrainer, normalizer, *steps, initial_alphabet=alphabet)
    made.decoder = decoders.ByteLevel()
    return made


def bytes_only() -> object:
    return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)


def with_token(token: AddedToken) -> Tokenizer:
    made = byte_level(None, pre_tokenizers.ByteLevel(add_prefix_space=False))
    made.add_tokens([token])
    return made


def split(pattern: str, behavior: str = "isolated") -> object:
    return pre_tokenizers.Split(Regex(pattern), behavior)


TOKENIZERS: dict[str, tuple[Callable[[], Tokenizer], bool]] = {
    "gpt2": (lambda: byte_level(None, pre_tokenizers.ByteLevel(add_prefix_space=False)), True),
    "llama3": (lambda: byte_level(None, split(LLAMA3), bytes_only()), True),
    "qwen": (lambda: byte_level(normalizers.NFC(), split(module._TIKTOKEN % r"\p{N}"), bytes_only()), True),
    "digits": (
        lambda: byte_level(None, pre_tokenizers.Digits(True), pre_tokenizers.ByteLevel(add_prefix_space=False)),
        True,
    ),
    "bert": (
        lambda: trained(
            models.WordPiece(unk_token="[UNK]"),
            trainers.WordPieceTrainer,
            normalizers.BertNormalizer(),
            pre_tokenizers.BertPreTokenizer(),
            special_tokens=["[UNK]"],
        ),
        True,
    ),
    "a space added": (lambda: byte_level(None, pre_tokenizers.ByteLevel(add_prefix_space=True)), False),
    "no words": (lambda: byte_level(None, bytes_only()), False),
    "two words": (lambda: byte_level(None, split(r"\w+ \w+"), bytes_only()), False),
    "metaspace": (
        lambda: trained(
            models.BPE(unk_token="<unk>"),
            trainers.BpeTrainer,
            normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]),
            special_tokens=["<unk>"],
        ),
        False,
    ),
    "unigram": (
        lambda: trained(
            models.Unigram(),
            trainers.UnigramTrainer,
            None,
            pre_tokenizers.Metaspace(),
            special_tokens=["<unk>"],
            unk_token="<unk>",
        ),
        False,
    ),
    "a token of two words": (lambda: with_token(AddedToken("the film")), False),
    "a token that takes spaces": (lambda: with_token(AddedToken("film", lstrip=True, rstrip=True)), False),
    "a token of spaces": (lambda: with_token(AddedToken("   ")), True),
    "a token of signs": (lambda: with_token(AddedToken("<mask>", lstrip=True)), True),
}
WORDS = [
    "the", "film", "It's", "isn", "'t", "'", " ", "  ", "   ", "\n", "\n\n", "\t", "12", "12345", "Größe", "фильм", "é",
    "e\u0301", "日本", "<mask>", "(", "):", ".", ",", "ﬁ", "İ", "\u00a0", "x", "I", "\u200b", "Σ", " \r\n",
]  # fmt: skip
TEXTS = st.lists(st.sampled_from(WORDS) | st.text(max_size=3), max_size=8).map("".join)
SPACED = st.lists(st.sampled_from(WORDS), max_size=8).map(" ".join)


@pytest.fixture(scope="module")
def made() -> dict[str, PreTrainedTokenizerFast]:
    return {name: PreTrainedTokenizerFast(tokenizer_object=make()) for name, (make, _) in TOKENIZERS.items()}


def by_definition(tokenizer: PreTrainedTokenizerFast, prompt: str, completion: str) -> tuple[list[int], list[int]]:
    """Together if the prompt's tokens are a prefix, else apart; by three calls for each row."""
    ids, alone, both = (
        tokenizer(text, add_special_tokens=False)["input_ids"] for text in (prompt, completion, prompt + completion)
    )
    return ids, both[len(ids) :] if both[: len(ids)] == ids else alone


@pytest.mark.parametrize("name", TOKENIZERS)
def test_words_are_apart_where_the_steps_say_so(name: str, made: dict[str, PreTrainedTokenizerFast]) -> None:
    assert words_are_apart(made[name]) == TOKENIZERS[name][1]


@pytest.mark.parametrize("name", TOKENIZERS)
@given(rows=st.lists(st.tuples(TEXTS | SPACED, TEXTS | SPACED), min_size=1, max_size=6))
def test_tokens_are_those_of_running_text(
    name: str, made: dict[str, PreTrainedTokenizerFast], rows: list[tuple[str, str]]
) -> None:
    tokenizer = made[name]
    prompts, completions = (list(part) for part in zip(*rows, strict=True))
    assert list(zip(*running_ids(tokenizer, prompts, completions), strict=True)) == [
        by_definition(tokenizer, *row) for row in rows
    ]


def test_earlier_truncation_and_padding_do_not_count(made: dict[str, PreTrainedTokenizerFast]) -> None:
    tokenizer = made["bert"]
    tokenizer.pad_token = "[UNK]"
    whole = token_ids(tokenizer, CORPUS)
    tokenizer(CORPUS, truncation=True, max_length=3, padding="max_length")
    assert token_ids(tokenizer, CORPUS) == whole
    assert min(map(len, whole)) > 3


def test_a_tokenizer_with_code_of_its_own_is_called() -> None:
    class Lower(PreTrainedTokenizerFast):
        def __call__(self, text: list[str], **options: object) -> object:
            return super().__call__([part.lower() for part in text], **options)

    tokenizer = Lower(tokenizer_object=TOKENIZERS["gpt2"][0]())
    assert token_ids(tokenizer, ["The FILM"]) == token_ids(tokenizer, ["the film"])
    assert not words_are_apart(tokenizer)
    assert running_ids(tokenizer, ["THE"], [" FILM"])[1] == token_ids(tokenizer, [" film"])
