"""Decoding with several processes against one, in turn.

    python benchmarks/evaluate.py [--processes 2] [--prompts 256] [--max-new-tokens 64] [--rounds 5]

The model is a random LLaMA with grouped-query attention; the prompts have 8 to 64 random tokens. In each round rank 0
decodes all prompts alone while the others wait, and then all ranks decode them together. Each process has one thread,
so the time on the clock is only meaningful with as many free cores as processes. Processor time is meaningful on a
machine with other work: that of one process, and the largest of the ranks.

The texts of both ways are compared.
"""

from __future__ import annotations

import os
import random
import statistics
import subprocess
import sys
import time
from typing import NamedTuple

import torch
from measuring import END, parser_for, train_tokenizer
from transformers import LlamaConfig, LlamaForCausalLM

from red_cli.console import silence_libraries
from red_cli.distributed.process_group import Processes, join_processes
from red_cli.edit.model_kinds import DECODER
from red_cli.inference.generate import Decoder
from red_cli.inference.runtime import Runtime
from red_cli.recipe.load import load_recipe
from red_cli.recipe.sections import Decoding, Launch
from red_cli.runs.events import NullListener
from red_cli.tasks.base import Base, Generated
from red_cli.tasks.special_ids import SpecialIds

_SHORTEST, _LONGEST = 8, 64  # tokens of a prompt


class Decoded(NamedTuple):
    """Texts, and how long they took: on the clock, and of the processor of this process."""

    texts: list[Generated]
    seconds: float
    processor: float


def decode(runtime: Runtime, prompts: list[list[int]], max_new_tokens: int) -> Decoded:
    started, busy = time.perf_counter(), time.process_time()
    texts = Decoder(runtime, Decoding()).generate(prompts, SpecialIds(END, END), max_new_tokens)
    return Decoded(texts, time.perf_counter() - started, time.process_time() - busy)


def measure(
    processes: Processes, runtimes: tuple[Runtime, Runtime], prompts: list[list[int]], rounds: int, most: int
) -> None:
    """Print a line for each round, and the medians."""
    ratios, busy_ratios, same = [], [], True
    if processes.main:
        print(f"round  1 process  {processes.count} processes  ratio  of processor: one  each, at most  ratio")
    for number in range(rounds + 1):  # the first warms up
        alone = decode(runtimes[0], prompts, most) if processes.main else None
        processes.barrier()
        shared = decode(runtimes[1], prompts, most)
        largest = max(processes.gather(shared.processor))
        if alone is None or number == 0:
            continue
        same &= alone.texts == shared.texts
        ratios.append(shared.seconds / alone.seconds)
        busy_ratios.append(largest / alone.processor)
        print(
            f"{number:5}  {alone.seconds:7.2f} s  {shared.seconds:9.2f} s  {ratios[-1]:5.2f}  "
            f"{alone.processor:15.2f} s  {largest:11.2f} s  {busy_ratios[-1]:5.2f}",
            flush=True,
        )
    if processes.main:
        print(f"median ratio {statistics.median(ratios):.2f}, of processor time {statistics.median(busy_ratios):.2f}")
        print(f"the same texts: {same}")


def main() -> None:
    parser = parser_for(__doc__)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--prompts", type=int, default=256)
    parser.add_argument("--max-new-tokens", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--layers", type=int, default=4)
    arguments = parser.parse_args()
    silence_libraries()
    torch.set_num_threads(1)
    if arguments.processes > 1 and "RANK" not in os.environ:
        launcher = ["-m", "torch.distributed.run", "--nproc-per-node", str(arguments.processes), "--standalone"]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        subprocess.run([sys.executable, *launcher, *sys.argv], check=True, env=environment)
        return
    processes = join_processes(Launch())
    tokenizer = train_tokenizer(["some words for a tokenizer"])
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=arguments.width, intermediate_size=4 * arguments.width,
        num_hidden_layers=arguments.layers, num_attention_heads=8, num_key_value_heads=2, eos_token_id=END,
    )  # fmt: skip
    model = LlamaForCausalLM(config).eval().to(processes.device)
    draw = random.Random(0)
    prompts = [
        [draw.randrange(1, config.vocab_size) for _ in range(draw.randint(_SHORTEST, _LONGEST))]
        for _ in range(arguments.prompts)
    ]
    recipe = load_recipe("generation", overrides=["model.name_or_path=.", "data.path=."]).recipe
    base = Base(config, tokenizer, config.max_position_embeddings, DECODER)
    alone = Runtime(model, base, recipe, NullListener(), Processes(device=processes.device))
    together = Runtime(model, base, recipe, NullListener(), processes)
    measure(processes, (alone, together), prompts, arguments.rounds, arguments.max_new_tokens)


if __name__ == "__main__":
    main()
