"""Time and memory of a training step: `red train`'s own step beside bare loops over the same batches.

    python scripts/bench_train.py --model FOLDER --data FOLDER [--recipe glue_sst2] [--steps 60]

Three methods take the same steps in turn, each on its own copy of the model:
  red    the toolkit's step, as `red train` runs it (collation, Accelerate, clipping, checks)
  bare   a plain loop with the same edits and head: forward, backward, AdamW, and nothing else
  lora   the same plain loop with PEFT's LoRA (r=8 on query and value) and the same head
Ratios are medians over steps of the times of one step, so that a slow moment of the machine hits all alike. Memory is
what a step over the longest rows allocates at its peak, on top of the model.
"""

from __future__ import annotations

import argparse
import random
import statistics
import tempfile
import time
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel

from red_cli.console import hush
from red_cli.edit.model import attach, train_head
from red_cli.recipe.load import Loaded, load_recipe
from red_cli.run.base_model import load_base
from red_cli.run.events import Silent
from red_cli.run.optimizer import build_optimizer
from red_cli.run.plan import Prepared, make_plan, prepare
from red_cli.run.session import Session, set_up
from red_cli.run.train import optimizer_step

METHODS = ("red", "bare", "lora")
Rows = NDArray[np.int64]


def red_step(session: Session) -> Callable[[Rows], object]:
    """The toolkit's step."""
    session.wrapped.train()
    return lambda rows: optimizer_step(session, rows)


def bare_step(model: PreTrainedModel, optimizer: torch.optim.Optimizer, session: Session) -> Callable[[Rows], object]:
    """A plain loop's step over the same micro-batches."""
    task, encoded = session.prepared.task, session.prepared.encoded["train"]
    device = session.accelerator.device
    model.to(device).train()

    def step(rows: Rows) -> None:
        for piece in session.micro_batches(rows):
            batch = task.collate(encoded, piece).to(device)
            (task.loss(model, batch) / len(rows)).backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def edited_model(loaded: Loaded, prepared: Prepared) -> tuple[PreTrainedModel, torch.optim.Optimizer]:
    model, head = load_base(loaded.recipe.model, prepared.config, seed=0)
    attach(model, loaded.recipe.red)
    train_head(model, head)
    return model, build_optimizer(model, loaded.recipe.train)


def lora_model(loaded: Loaded, prepared: Prepared) -> tuple[PreTrainedModel, torch.optim.Optimizer]:
    from peft import LoraConfig, get_peft_model

    base, head = load_base(loaded.recipe.model, prepared.config, seed=0)
    modules = sorted({name.split(".")[0] for name in head})
    model = get_peft_model(
        base, LoraConfig(r=8, lora_alpha=16, target_modules=["query", "value"], modules_to_save=modules)
    )
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return model, torch.optim.AdamW(trained, lr=loaded.recipe.train.learning_rate, fused=True)


def step_of(method: str, session: Session) -> Callable[[Rows], object]:
    if method == "red":
        return red_step(session)
    make = edited_model if method == "bare" else lora_model
    return bare_step(*make(session.loaded, session.prepared), session)


def open_session(arguments: argparse.Namespace, folder: str) -> Session:
    overrides = [f"output.dir={folder}/run", f"train.micro_batch_size={arguments.micro_batch_size}"]
    if arguments.model:
        overrides.append(f"model.name_or_path={arguments.model}")
    if arguments.data:
        overrides.append(f"data.path={arguments.data}")
    loaded = load_recipe(arguments.recipe, overrides=overrides)
    prepared = prepare(loaded.recipe)
    return set_up(loaded, prepared, make_plan(loaded, prepared), None, Silent())


def measure_times(
    session: Session, run: dict[str, Callable[[Rows], object]], steps: int, warmup: int = 5
) -> dict[str, list[float]]:
    """Seconds of each step by method; the methods take every batch in turn, in random order."""
    seconds: dict[str, list[float]] = {method: [] for method in METHODS}
    for number, rows in zip(range(warmup + steps), session.order.from_step(0), strict=False):
        for method in random.Random(number).sample(METHODS, len(METHODS)):
            _synchronize()
            started = time.perf_counter()
            run[method](rows)
            _synchronize()
            if number >= warmup:
                seconds[method].append(time.perf_counter() - started)
    return seconds


def measure_memory(step: Callable[[Rows], object], rows: Rows) -> int:
    """Bytes that one step allocates at its peak, on top of the model and the optimiser's state."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step(rows)
        return torch.cuda.max_memory_allocated() - before
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        step(rows)
    events = [event for event in profile.profiler.kineto_results.events() if event.name() == "[memory]"]
    sizes = [event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())]
    return int(np.cumsum(sizes).max())


def _synchronize() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="glue_sst2")
    parser.add_argument("--model", help="model folder or name; default: the recipe's")
    parser.add_argument("--data", help="data folder; default: the recipe's")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--micro-batch-size", type=int, default=32)
    arguments = parser.parse_args()
    hush()
    with tempfile.TemporaryDirectory() as folder:
        session = open_session(arguments, folder)
        run = {method: step_of(method, session) for method in METHODS}
        seconds = measure_times(session, run, arguments.steps)
        lengths = session.prepared.encoded["train"].lengths
        longest = (-lengths).argsort(kind="stable")[: session.recipe.train.batch_size]
        peaks = {method: measure_memory(run[method], longest) for method in METHODS}
    print(f"{'method':8}{'step (ms)':>12}{'of bare':>10}{'of lora':>10}{'peak of a step (MiB)':>24}")
    for method in METHODS:
        ratio = {
            other: statistics.median(a / b for a, b in zip(seconds[method], seconds[other], strict=True))
            for other in ("bare", "lora")
        }
        median = statistics.median(seconds[method]) * 1000
        peak = peaks[method] / 2**20
        print(f"{method:8}{median:12.1f}{ratio['bare']:10.3f}{ratio['lora']:10.3f}{peak:24.1f}")


if __name__ == "__main__":
    main()
