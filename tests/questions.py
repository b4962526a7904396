"""Tiny questions in the protocol of the commonsense tasks, and a decoder that reads them."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from tests.tiny import tiny_model

FORMATS = {"boolq": "true/false", "piqa": "solution1/solution2", "openbookqa": "answer1/answer2/answer3"}
SIGNS = ["red", "green", "blue"]  # each stands for one of the answers
FILLING = ["is", "it", "so", "now", "then", "why"]


def make_decoder(folder: Path, texts: Sequence[str]) -> Path:
    """A folder with a tiny random LLaMA and a tokenizer of the texts' words and signs, which keeps spaces."""
    pieces = pre_tokenizers.Split(Regex(r"\s|\w+|[^\w\s]"), "isolated")
    words = {piece for text in texts for piece, _ in pieces.pre_tokenize_str(text)}
    listed = ["[PAD]", "[UNK]", "[END]", *sorted(words)]
    tokenizer = Tokenizer(models.WordLevel({word: index for index, word in enumerate(listed)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer, tokenizer.decoder = pieces, decoders.Fuse()
    ends = {"pad_token_id": 0, "eos_token_id": 2, "bos_token_id": None}
    model = tiny_model("llama", vocab_size=len(listed), max_position_embeddings=512, **ends)
    model.save_pretrained(folder)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", eos_token="[END]", model_max_length=512,
        model_input_names=["input_ids", "attention_mask"],
    ).save_pretrained(folder)  # fmt: skip
    return folder


def questions(task: str, count: int, seed: int) -> list[dict]:
    """Rows in the protocol's layout; the sign in the question decides the answer."""
    generator, answers, rows = random.Random(seed), FORMATS[task].split("/"), []
    for _ in range(count):
        right = generator.randrange(len(answers))
        words = [*generator.choices(FILLING, k=3), SIGNS[right]]
        text = f"{' '.join(words)}?\n\nAnswer format: {FORMATS[task]}"
        output = f"the correct answer is {answers[right]}"
        rows.append({"instruction": text, "input": "", "output": output, "answer": answers[right]})
    return rows
