"""What a training imports and takes to load, what a step on several processes sends, and what chunks of its loss cost.

    python benchmarks/scale.py [--parts imports,messages,chunks] [--layers 4] [--chunks 12] [--width 384] [--rounds 7]
    python benchmarks/scale.py --parts messages --base llama-0.7b

  imports    processor seconds and modules up to the first step of the quickstart, and those of importing torch,
             transformers and the base's class alone
  messages   collectives of a step, counted by torch's profiler, and reads of tensors by the host, of which some are in
             the model's code; of two processes of ddp and of fsdp on a random GPT-2, or on a LLaMA of 0.7 billion
             parameters with one row a process, whose loss is computed in chunks; on rank 0
  chunks     processor time of a step whose loss is computed in chunks, of that in one; medians of rounds in turn

"model for each chunk" runs the model on one token for each further chunk, as `red` does where it does not know what
follows an output layer. "four messages" sends weights, losses, gradients and requests to stop each by itself, and reads
each at once.
"""

from __future__ import annotations

import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from measuring import parser_for
from two_ranks import RANK_FOLDER, ROWS, WORDS, make_llama_run, make_run, session_of, start_two_ranks, work_as_rank

from red_cli.console import silence_libraries
from red_cli.distributed.engine import Replicated
from red_cli.distributed.step_numbers import OwnShare, StepNumbers, StepResult
from red_cli.tasks.text import token_loss
from red_cli.tasks.text.token_loss import synchronised_chunks
from red_cli.train.session import Session
from red_cli.train.step import optimizer_step

# Imports the libraries alone, or trains the quickstart up to its first step, and prints seconds and modules.
_LIBRARIES = "import torch, transformers; from transformers import RobertaForSequenceClassification"
_TRAINING = """
from red_cli.recipe.load import load_recipe
from red_cli.train import loop
class Reached(Exception): pass
def first_step(session, rows):
    raise Reached
loop.optimizer_step = first_step
try:
    loop.train(load_recipe("quickstart", overrides=["output.dir={folder}", "train.micro_batch_size=8"]))
except Reached:
    pass
"""
_PRINT = "\nimport sys, time; print(time.process_time(), len(sys.modules))"
# collectives as torch's profiler names them
_COUNTED = {"all-gathers": "c10d::_allgather_base_", "all-reduces": "c10d::allreduce_", "gathers": "c10d::allgather_"}
_READS = ("item", "tolist", "__float__", "__int__", "__bool__", "numpy")  # methods by which the host reads a tensor


def imports(rounds: int) -> None:
    seconds: dict[str, list[float]] = {"libraries": [], "first step": []}
    modules: dict[str, int] = {}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(rounds):
            programs = {"libraries": _LIBRARIES, "first step": _TRAINING.replace("{folder}", f"{folder}/{number}")}
            for name, program in programs.items():
                uncached = {**os.environ, "RED_CACHE_GIB": "0"}  # the untuned model is scored
                run = subprocess.run([sys.executable, "-c", program + _PRINT], stdout=subprocess.PIPE, text=True,
                                     stderr=subprocess.DEVNULL, check=True, env=uncached)  # fmt: skip
                found = run.stdout.split()[-2:]
                seconds[name].append(float(found[0]))
                modules[name] = int(found[1])
    libraries, first = (statistics.median(found) for found in seconds.values())
    print(f"up to the first step {first:.1f} s of processor time, {modules['first step']:,} modules;")
    print(f"torch, transformers and the base's class alone {libraries:.1f} s, {modules['libraries']:,} modules")
    print(f"ratio {first / libraries:.2f}", flush=True)


class ReadNumbers(StepNumbers):
    """The numbers of a step that the host has read already."""

    def __init__(self, result: StepResult) -> None:
        super().__init__(*map(torch.tensor, (result.loss, result.gradient_norm, result.stop)))
        self._result = result

    def read(self) -> StepResult:
        return self._result


class FourMessages(Replicated):
    """An engine that sums each number of a step by a message of its own, and reads it at once."""

    def divisor(self, weight: float) -> float:
        return self.processes.all_reduce_sum(weight)

    def reduce_and_clip_gradients(self, limit: float | None, own: OwnShare) -> StepNumbers:
        loss = self.processes.all_reduce_sum(float(own.loss))
        gradients = [parameter.grad for parameter in self.parameters if parameter.grad is not None]
        had = torch.ones(len(self.parameters))
        self.processes.all_reduce_([had, *gradients])
        had.tolist()
        norm = float(torch.nn.utils.clip_grad_norm_(self.parameters, limit or float("inf")))
        stop = any(self.processes.any_rank(own.stop))
        return ReadNumbers(StepResult(loss, norm, stop))


@dataclass
class HostReads:
    """Reads of tensors by the host since counting began, and those of them in the model's code."""

    total: int = 0
    in_model: int = 0


@contextmanager
def counted_reads(model: torch.nn.Module) -> Iterator[HostReads]:
    """Count the reads of tensors inside the block."""
    reads, inside, before = HostReads(), [False], [0]
    real = {name: getattr(torch.Tensor, name) for name in _READS}

    def counting(method: Callable[..., Any]) -> Callable[..., Any]:
        def read(*arguments: Any, **options: Any) -> Any:
            outer, inside[0] = inside[0], True
            reads.total += not outer
            try:
                return method(*arguments, **options)
            finally:
                inside[0] = outer

        return read

    def begin(*_: Any) -> None:
        before[0] = reads.total

    def end(*_: Any) -> None:
        reads.in_model += reads.total - before[0]

    hooks = [model.register_forward_pre_hook(begin), model.register_forward_hook(end)]
    for name, method in real.items():
        setattr(torch.Tensor, name, counting(method))
    try:
        yield reads
    finally:
        for name, method in real.items():
            setattr(torch.Tensor, name, method)
        for hook in hooks:
            hook.remove()


@contextmanager
def loss_in_chunks(session: Session, chunks: int, known: bool = True) -> Iterator[Callable[[], tuple[float, float]]]:
    """A step whose loss takes so many chunks; it returns the loss and the gradient norm.

    Args:
        known: whether what follows the output layer is known.
    """
    rows = next(iter(session.schedule.sampler.from_step(0)))
    batches = session.collate_step(rows)
    labelled = batches.micro_batches[0][1].weight
    earlier = _, make = token_loss.CHUNK_BYTES, token_loss.logits_and_layer
    token_loss.CHUNK_BYTES = -(-labelled // chunks) * 4 * session.model.config.vocab_size
    if not known:
        token_loss.logits_and_layer = lambda *arguments: (make(*arguments)[0], None)
    agree = session.processes.max_over_ranks

    def step() -> tuple[float, float]:
        result = optimizer_step(session, batches).read()
        return result.loss, result.gradient_norm

    try:
        with synchronised_chunks(agree) if session.engine.sharded else nullcontext():
            yield step
    finally:
        token_loss.CHUNK_BYTES, token_loss.logits_and_layer = earlier


def count_in_rank(folder: Path) -> None:
    """Count the messages of a step on one of two processes; rank 0 writes them to counts.json."""
    ways, keys = json.loads((folder / "ways.json").read_text())
    counts, results = [], []
    for strategy, chunks, known, four in ways:
        session = session_of(folder, strategy, *keys)
        if four:
            optimisation, trained = session.optimisation, session.trained
            engine = FourMessages(session.model, trained, optimisation.optimizer, session.processes, sharded=False)
            session.optimisation = replace(optimisation, engine=engine)
        with loss_in_chunks(session, chunks, known) as step:
            results.append(step())
            with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
                step()
            with counted_reads(session.engine.model) as reads:
                step()
        calls = {event.key: event.count for event in profile.key_averages()}
        collectives = {name: calls.get(key, 0) for name, key in _COUNTED.items()}
        counts.append({**collectives, "host reads": reads.total, "in model": reads.in_model})
    if os.environ["RANK"] == "0":
        (folder / "counts.json").write_text(json.dumps([counts, results]))


def messages(make: Callable[[Path], None], what: str, chunks: int, keys: list[str]) -> None:
    ways = [
        ("ddp", 1, True, True),
        ("ddp", 1, True, False),
        ("fsdp", 1, True, False),
        ("fsdp", chunks, True, False),
        ("fsdp", chunks, False, False),
    ]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make(folder)
        (folder / "ways.json").write_text(json.dumps([ways, keys]))
        start_two_ranks(__file__, folder)
        counts, results = json.loads((folder / "counts.json").read_text())
    print(f"a step of two processes, {what}:")
    print(f"{'':36}" + "".join(f"{name:>13}" for name in counts[0]))
    for (strategy, count, known, four), found in zip(ways, counts, strict=True):
        more = ", four messages" if four else "" if known else ", model for each chunk"
        way = f"{strategy}, {count} chunk{'s' * (count > 1)}{more}"
        print(f"{way:36}" + "".join(f"{number:13}" for number in found.values()))
    apart = max(abs(found / first - 1) for result in results for found, first in zip(result, results[0], strict=True))
    print(f"losses and gradient norms of the first step differ by at most {apart:.0e} of their size", flush=True)


def time_of_chunks(layers: int, chunks: int, width: int, vocabulary: int, rounds: int) -> None:
    ways = {"1 chunk": (1, True), f"{chunks} chunks": (chunks, True), "model for each chunk": (chunks, False)}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    with tempfile.TemporaryDirectory() as name:
        make_run(Path(name), layers, width, vocabulary)
        session = session_of(Path(name), "single")
        for number in range(rounds + 1):
            for way in random.Random(number).sample(list(ways), len(ways)):
                with loss_in_chunks(session, *ways[way]) as step:
                    started = time.process_time()
                    step()
                    if number:
                        seconds[way].append(time.process_time() - started)
    single = seconds["1 chunk"]
    print(f"a step of {ROWS * (WORDS + 1)} tokens, {layers} blocks of width {width}, vocabulary {vocabulary:,}:")
    for way, times in seconds.items():
        ratio = statistics.median(own / one for own, one in zip(times, single, strict=True))
        print(f"{way:24}{statistics.median(times) * 1000:8.0f} ms{ratio:8.2f} of 1 chunk", flush=True)


def main() -> None:
    parser = parser_for(__doc__)
    parser.add_argument("--parts", default="imports,messages,chunks")
    parser.add_argument("--base", choices=["gpt2", "llama-0.7b"], default="gpt2", help="of the messages")
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--chunks", type=int, default=12)
    parser.add_argument("--width", type=int, default=384)
    parser.add_argument("--vocabulary", type=int, default=16384)
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    silence_libraries()
    parts = arguments.parts.split(",")
    if "imports" in parts:
        imports(arguments.rounds)
    if "messages" in parts:
        gpt2 = partial(make_run, layers=arguments.layers, width=32, vocabulary=320), f"{arguments.layers} blocks", []
        llama = make_llama_run, "LLaMA, 0.7 billion", ["train.batch_size=2", "train.micro_batch_size=1"]
        make, what, keys = gpt2 if arguments.base == "gpt2" else llama
        messages(make, what, arguments.chunks, keys)
    if "chunks" in parts:
        time_of_chunks(arguments.layers, arguments.chunks, arguments.width, arguments.vocabulary, arguments.rounds)


if __name__ == "__main__":
    if RANK_FOLDER in os.environ:
        work_as_rank(count_in_rank)
    else:
        main()
