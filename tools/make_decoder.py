"""Pretrain a small decoder on text of the project's own, for trials of text generation where no hub can be reached.

    python tools/make_decoder.py --output FOLDER [--minutes 30] [--threads 2]

Written to FOLDER, for plain transformers: a byte-level BPE tokenizer and a GPT-2 of 6 layers and width 256, pretrained
on the documents that decoder_corpus.py writes, each seen once. The number of steps is fixed by --steps; --minutes stops
sooner, the learning rate being that of the time gone by. One seed and --steps without --minutes give the same weights.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from decoder_corpus import documents
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch.nn.functional import cross_entropy
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

END = "<|endoftext|>"
_TOKENIZER_DOCUMENTS = 60_000
_HELD_OUT_ROWS = 64
_WARMUP = 0.03
_LAST_RATE = 0.05  # of the peak


def train_tokenizer(texts: Iterator[str], size: int, longest: int) -> PreTrainedTokenizerFast:
    """A byte-level BPE, which has no unknown text; the end of a text is its padding too, as in GPT-2."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    core.train_from_iterator(
        texts,
        trainers.BpeTrainer(vocab_size=size, special_tokens=[END], initial_alphabet=alphabet, show_progress=False),
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=core, model_max_length=longest, bos_token=END, eos_token=END, pad_token=END
    )


def blocks(tokenizer: PreTrainedTokenizerFast, texts: Iterator[str], length: int) -> Iterator[list[int]]:
    """Stretches of `length` tokens of running text, each document followed by its end."""
    rest: list[int] = []
    end = tokenizer.eos_token_id
    while True:
        for ids in tokenizer(list(itertools.islice(texts, 1000)))["input_ids"]:
            rest += [*ids, end]
        whole = len(rest) - len(rest) % length
        for start in range(0, whole, length):
            yield rest[start : start + length]
        rest = rest[whole:]


def language_loss(model: GPT2LMHeadModel, rows: list[list[int]]) -> torch.Tensor:
    """Mean over the tokens but the first of each row, in nats."""
    ids = torch.tensor(rows)
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(input_ids=ids[:, :-1]).logits
    return cross_entropy(logits.float().flatten(0, 1), ids[:, 1:].flatten())


def pretrain(model: GPT2LMHeadModel, rows: Iterator[list[int]], arguments: argparse.Namespace) -> int:
    """One pass over `rows`; the number of steps taken."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=arguments.lr, betas=(0.9, 0.95), weight_decay=0.1, fused=True)
    started, recent = time.perf_counter(), 0.0
    for step in range(arguments.steps):
        gone = step / arguments.steps
        if arguments.minutes:
            gone = max(gone, (time.perf_counter() - started) / 60 / arguments.minutes)
        if gone >= 1:
            return step
        rate = arguments.lr * min((step + 1) / (_WARMUP * arguments.steps), 1) * (1 - (1 - _LAST_RATE) * gone)
        for group in optimizer.param_groups:
            group["lr"] = rate
        loss = language_loss(model, list(itertools.islice(rows, arguments.batch_size)))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        recent += loss.item()
        if (step + 1) % 200 == 0:
            spent = time.perf_counter() - started
            print(f"step {step + 1}/{arguments.steps}  loss {recent / 200:.3f}  {spent:.0f} s", flush=True)
            recent = 0.0
    return arguments.steps


CARD = """---
license: apache-2.0
language: en
library_name: transformers
pipeline_tag: text-generation
tags: [gpt2, synthetic]
---

# A small decoder for trials

A GPT-2 of {layers} layers and width {width} ({parameters:,} parameters, {tokens:,} tokens of vocabulary), made by
`tools/make_decoder.py` from seed {seed}; nothing was copied or downloaded. It was pretrained for {steps:,} steps of
{batch} rows of {length} tokens, {seen:.1f} million in all, each seen once, on English-like text from a grammar: things
(boats, museums, hotels, shops, films, animals, clubs, parks) described from records of their features in seven
notations, and diaries of days out. The text holds no row of any data set, and neither of the notations in which `red`
reads E2E's records. Loss on held-out text of the grammar: {loss:.3f} nats a token. It knows a few hundred words and
made-up names, and is of no use beyond trials.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--minutes", type=float, help="stop sooner")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--vocabulary", type=int, default=4096)
    parser.add_argument("--length", type=int, default=128, help="tokens of a row")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--lr", type=float, default=2e-3)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(arguments.seed)
    longest = 512
    sample = itertools.islice(documents(f"{arguments.seed}-tokenizer"), _TOKENIZER_DOCUMENTS)
    tokenizer = train_tokenizer(sample, arguments.vocabulary, longest)
    config = GPT2Config(
        vocab_size=len(tokenizer),
        n_embd=arguments.width,
        n_layer=arguments.layers,
        n_head=arguments.width // 64,
        n_positions=longest,
        bos_token_id=tokenizer.eos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
    )
    model = GPT2LMHeadModel(config)
    steps = pretrain(
        model.train(), blocks(tokenizer, documents(f"{arguments.seed}-train"), arguments.length), arguments
    )
    held_out = blocks(tokenizer, documents(f"{arguments.seed}-held out"), arguments.length)
    with torch.no_grad():
        loss = language_loss(model.eval(), list(itertools.islice(held_out, _HELD_OUT_ROWS))).item()
    print(f"{steps} steps; held-out loss {loss:.3f} nats a token")
    tokenizer.save_pretrained(arguments.output)
    model.save_pretrained(arguments.output)
    card = CARD.format(
        layers=arguments.layers,
        width=arguments.width,
        parameters=model.num_parameters(),
        tokens=len(tokenizer),
        seed=arguments.seed,
        steps=steps,
        batch=arguments.batch_size,
        length=arguments.length,
        seen=steps * arguments.batch_size * arguments.length / 1e6,
        loss=loss,
    )
    (arguments.output / "README.md").write_text(card, encoding="utf-8")
    written = json.loads((arguments.output / "config.json").read_text(encoding="utf-8"))
    print(f"{arguments.output}: {written['model_type']}, {model.num_parameters():,} parameters")


if __name__ == "__main__":
    main()
