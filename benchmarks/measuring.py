"""What several benchmarks do: options, sessions, timing ways in turn, a byte-level tokenizer, columns of Parquet."""

from __future__ import annotations

import argparse
import random
import statistics
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import nn
from transformers import PreTrainedTokenizerFast

from red_cli.distributed.process_group import SINGLE_PROCESS
from red_cli.plan.plan import make_plan
from red_cli.plan.prepare import prepare
from red_cli.recipe.load import LoadedRecipe
from red_cli.train.events import NullTrainingListener
from red_cli.train.resources import OwnResources
from red_cli.train.session import Session
from red_cli.train.setup import build_session

SMALL_GPT2 = {"n_embd": 384, "n_layer": 6, "n_head": 6}
END = 0  # the tokenizer's only special token, <|endoftext|>


def parser_for(text: str | None) -> argparse.ArgumentParser:
    """A parser whose help is the benchmark's own text."""
    return argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)


def open_session(loaded: LoadedRecipe) -> Session:
    """`red train`'s own session on one process, its model in training mode."""
    prepared = prepare(loaded.recipe)
    schedule = make_plan(loaded, prepared).schedule
    session = build_session(loaded, prepared, schedule, None, NullTrainingListener(), SINGLE_PROCESS, OwnResources())
    session.engine.model.train()
    return session


def seconds_in_turn(
    ways: Mapping[str, Callable[[Any], object]], batches: Iterable[Any], warmup: int
) -> dict[str, list[float]]:
    """Seconds of each way on each batch, the first `warmup` left out; all ways take a batch, in random order."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for number, batch in enumerate(batches):
        for name in random.Random(number).sample(list(ways), len(ways)):
            synchronize()
            started = time.perf_counter()
            ways[name](batch)
            synchronize()
            if number >= warmup:
                seconds[name].append(time.perf_counter() - started)
    return seconds


def median_ratio(times: list[float], others: list[float]) -> float:
    """The median over pairs, so that a slow moment of the machine counts in both halves of a pair."""
    return statistics.median(own / other for own, other in zip(times, others, strict=True))


def peak_memory(step: Callable[[Any], object], batch: Any) -> int:
    """Bytes that one step allocates at its peak, on top of the model and the optimizer's state."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step(batch)
        return torch.cuda.max_memory_allocated() - before
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        step(batch)
    events = [event for event in profile.profiler.kineto_results.events() if event.name() == "[memory]"]
    sizes = [event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())]
    return int(np.cumsum(sizes).max())


def synchronize() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def adamw(model: nn.Module, rate: float) -> torch.optim.AdamW:
    return torch.optim.AdamW([item for item in model.parameters() if item.requires_grad], lr=rate, fused=True)


def train_tokenizer(texts: list[str]) -> PreTrainedTokenizerFast:
    """A byte-level BPE, as GPT-2's."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(special_tokens=["<|endoftext|>"], initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|endoftext|>")


def column(folder: Path, split: str, name: str) -> list[str]:
    return pyarrow.parquet.read_table(folder / f"{split}.parquet", columns=[name]).column(0).to_pylist()
