"""Packed against padded training on texts of very different lengths: examples per second, and whether losses agree.

    OMP_NUM_THREADS=1 python benchmarks/packing.py [--device cuda] [--width 256] [--layers 4] [--longest 512]

A random LLaMA learns random conversations whose lengths are log-normal, as those of instructions are: most are short
and a few are long. Each way takes optimiser steps over the same rows through `red train`'s own session:

- random: batches in random order, each padded to its longest row
- grouped: micro-batches of similar length within a step (train.group_by_length, the default)
- packed: train.packing
"""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from measuring import open_session, parser_for, synchronize
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from red_cli.recipe.load import load_recipe
from red_cli.train.session import Session
from red_cli.train.step import optimizer_step

_VOCABULARY = 4096
_BATCH = 32
_STEPS = 6
_WAYS = {
    "random": ["train.group_by_length=false"],
    "grouped": ["train.group_by_length=true"],
    "packed": ["train.packing=true"],
}
_TEMPLATE = (
    "{% for message in messages %}"
    "{{ message.content + (eos_token if message.role == 'assistant' else ' 1 ') }}"
    "{% endfor %}"
)


def make_base(folder: Path, width: int, layers: int, longest: int) -> None:
    """A random LLaMA and a tokenizer whose words are numbers."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=_VOCABULARY, hidden_size=width, intermediate_size=4 * width, num_hidden_layers=layers,
        num_attention_heads=width // 64, max_position_embeddings=longest, pad_token_id=0, eos_token_id=2,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    words = {"[PAD]": 0, "[UNK]": 1, "[END]": 2, **{str(number): number + 3 for number in range(_VOCABULARY - 3)}}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    made = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", eos_token="[END]", model_max_length=longest
    )
    made.chat_template = _TEMPLATE
    made.save_pretrained(folder)


def make_data(path: Path, rows: int, longest: int) -> np.ndarray:
    """Conversations of one turn; returns their lengths in tokens."""
    draw = np.random.default_rng(0)
    lengths = np.clip(draw.lognormal(np.log(longest / 10), 0.9, rows), 8, longest).astype(int)
    with path.open("w") as file:
        for length in lengths:
            words = [str(number) for number in draw.integers(0, _VOCABULARY - 3, length - 2)]
            cut = max(1, len(words) // 3)
            turns = [("user", words[:cut]), ("assistant", words[cut:])]
            messages = [{"role": role, "content": " ".join(part)} for role, part in turns]
            file.write(json.dumps({"messages": messages}) + "\n")
    return lengths


def session_of(folder: Path, options: list[str], micro_batch_size: int) -> Session:
    recipe = folder / "recipe.yaml"
    recipe.write_text(
        f"task: {{name: instruction}}\nmodel: {{name_or_path: {folder / 'base'}}}\n"
        f"data: {{path: null, train: {folder / 'train.jsonl'}, validation: {folder / 'train.jsonl'}}}\n"
        f"train: {{batch_size: {_BATCH}, micro_batch_size: {micro_batch_size}, bf16: false}}\n"
        f"output: {{dir: {folder / 'run'}}}\n"
    )
    return open_session(load_recipe(str(recipe), overrides=options))


def timed(session: Session) -> tuple[float, list[float], int]:
    """Examples per second over some steps, their losses, and the tokens computed, padding included.

    On a CPU the seconds are this process's own, which others on the machine do not lengthen.
    """
    device = session.processes.device
    steps = session.schedule.sampler.epoch(0)[:_STEPS]
    pieces = [piece for rows in steps for piece in session.micro_batches(rows)]
    tokens = sum(session.collate(piece).inputs["input_ids"].numel() for piece in pieces)
    optimizer_step(session, session.collate_step(session.schedule.sampler.epoch(1)[0]))  # warms up
    losses = []
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    started = clock()
    for rows in steps:
        losses.append(optimizer_step(session, session.collate_step(rows)).read().loss)
    synchronize()
    return sum(len(rows) for rows in steps) / (clock() - started), losses, tokens


def main() -> None:
    parser = parser_for(__doc__)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--longest", type=int, default=512)
    parser.add_argument("--micro-batch-size", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error("no GPU here")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_base(folder / "base", options.width, options.layers, options.longest)
        lengths = make_data(folder / "train.jsonl", _BATCH * _STEPS, options.longest)
        print(f"tokens a row: median {np.median(lengths):.0f}, mean {lengths.mean():.0f}, longest {lengths.max()}")
        speeds: dict[str, list[float]] = {way: [] for way in _WAYS}
        found: dict[str, tuple[list[float], int]] = {}
        for _ in range(options.repeats):
            for way, keys in _WAYS.items():  # in turn, so that a busy machine is busy for all
                speed, losses, tokens = timed(session_of(folder, keys, options.micro_batch_size))
                speeds[way].append(speed)
                found[way] = losses, tokens
    best = {way: max(values) for way, values in speeds.items()}
    for way, (losses, tokens) in found.items():
        apart = max(abs(a - b) for a, b in zip(losses, found["random"][0], strict=True))
        print(
            f"{way:8} {best[way]:7.2f} examples/s  {best[way] / best['random']:.2f} x random  "
            f"{tokens / lengths.sum():.2f} tokens computed for each real one  losses apart by {apart:.1e}"
        )


if __name__ == "__main__":
    main()
