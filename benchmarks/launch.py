"""Time and traffic of a training step on one process and on several, through `red train`.

    python benchmarks/launch.py [--recipe quickstart] [--steps 60] [--strategies single,ddp,zero2,zero3,fsdp]

Every process has one thread. Bytes are those of the loopback interface, of all processes together, so nothing else may
use it meanwhile; half of what two processes send is what each does. Checkpoints are timed in this process.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import torch
from measuring import open_session, parser_for

from red_cli.console import silence_libraries
from red_cli.recipe.load import load_recipe
from red_cli.train.checkpoint import save_checkpoint
from red_cli.train.step import optimizer_step

_WARMUP = 10
_CHECKPOINTS = 10
_SAVE_STEPS = 50


def logged(run: Path) -> int:
    log = run / "log.jsonl"
    return log.read_text().count('"loss"') if log.is_file() else 0


def measure(recipe: str, strategy: str, processes: int, steps: int, folder: Path) -> tuple[float, float]:
    """Seconds and bytes sent of a step, without evaluations and checkpoints."""
    run = folder / f"{strategy}{processes}"
    total = _WARMUP + steps
    keys = [f"train.max_steps={total + 1}", f"train.eval_steps={total + 1}", "train.logging_steps=1",
            "train.micro_batch_size=8", f"launch.strategy={strategy}", f"launch.num_processes={processes}",
            f"output.dir={run}"]  # fmt: skip
    command = [sys.executable, "-m", "red_cli", "train", recipe, *keys]
    seen: dict[int, tuple[float, int]] = {}
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={**os.environ, "OMP_NUM_THREADS": "1"}
    ) as process:
        for step in (_WARMUP, total):
            while logged(run) < step and process.poll() is None:
                time.sleep(0.002)
            seen[step] = time.perf_counter(), psutil.net_io_counters(pernic=True)["lo"].bytes_sent
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} failed")
    (started, before), (ended, after) = seen.values()
    return (ended - started) / steps, (after - before) / steps


def checkpoints(recipe: str, folder: Path) -> tuple[float, float, int, int]:
    """Seconds of a step and of a checkpoint, bytes of a checkpoint, numbers that train."""
    loaded = load_recipe(recipe, None, [f"output.dir={folder / 'checkpoints'}", "train.micro_batch_size=8"])
    session = open_session(loaded)
    stepping, saving = [], []
    for step, rows in zip(range(_WARMUP + _CHECKPOINTS), session.schedule.sampler.from_step(0), strict=False):
        started = time.perf_counter()
        optimizer_step(session, session.collate_step(rows))
        stepped = time.perf_counter()
        session.state.step += 1
        path = save_checkpoint(session)
        if step >= _WARMUP:
            stepping.append(stepped - started)
            saving.append(time.perf_counter() - stepped)
    size = sum(file.stat().st_size for file in path.iterdir())
    counts = session.counts
    return sorted(stepping)[_CHECKPOINTS // 2], sorted(saving)[_CHECKPOINTS // 2], size, counts.edited + counts.head


def main() -> None:
    parser = parser_for(__doc__)
    parser.add_argument("--recipe", default="quickstart")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--strategies", default="single,ddp,zero2,zero3,fsdp")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    silence_libraries()
    with tempfile.TemporaryDirectory() as scratch:
        step, saved, size, trained = checkpoints(arguments.recipe, Path(scratch))
        share = saved / (_SAVE_STEPS * step)
        print(f"checkpoint: {size:,} bytes ({trained:,} numbers train), {saved * 1e3:.0f} ms;")
        print(f"one every {_SAVE_STEPS} steps of {step * 1e3:.0f} ms takes {share:.2%} of the time")
        print(f"a message of all gradients is {4 * trained:,} bytes")
        print("strategy  processes  ms a step  bytes sent a step, all processes")
        for strategy in arguments.strategies.split(","):
            processes = 1 if strategy == "single" else 2
            seconds, sent = measure(arguments.recipe, strategy, processes, arguments.steps, Path(scratch))
            print(f"{strategy:8}  {processes:9}  {seconds * 1e3:9.1f}  {sent:,.0f}", flush=True)


if __name__ == "__main__":
    main()
