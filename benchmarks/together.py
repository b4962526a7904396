"""Seeds in a process each, one after another, against `red train --together`: time, peak memory, the same adapters.

    python benchmarks/together.py [--recipe quickstart] [--seeds 42-49] [--pairs 3] [--keys KEY=VALUE …]

Each half of a pair is timed with the start-up of its processes, right after the other half, in random order; medians of
ratios over the pairs are printed. Peaks are those that the system reports for each child (getrusage). The cache is off,
so that no half finds what the other has computed. torch is not imported here: what this process holds would count in
the peak of its children.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_ADAPTER = Path("adapter") / "adapter_model.safetensors"


@dataclass(frozen=True)
class Measured:
    """Seconds and peak bytes: the sum over processes, and the most that one of them had."""

    seconds: float
    peak: int


def red(arguments: Sequence[str]) -> Measured:
    """Run `red` in a child process of one thread."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "RED_CACHE_GIB": "0"}
    command = [sys.executable, "-m", "red_cli", *arguments]
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)
    _, status, used = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} failed")
    return Measured(seconds, used.ru_maxrss * (1 if sys.platform == "darwin" else 1024))


def separately(train: Sequence[str], seeds: Sequence[int], folder: Path) -> Measured:
    """One process for each seed."""
    runs = [red([*train, f"train.seed={seed}", f"output.dir={folder / f'seed{seed}'}"]) for seed in seeds]
    return Measured(sum(run.seconds for run in runs), max(run.peak for run in runs))


def together(train: Sequence[str], seeds: Sequence[int], folder: Path) -> Measured:
    """One process for all seeds."""
    return red([*train, "--seeds", ",".join(map(str, seeds)), "--together", f"output.dir={folder}"])


def largest_difference(one: Path, other: Path, seeds: Sequence[int]) -> float:
    """The largest absolute difference between the adapters of the same seed."""
    from safetensors.numpy import load_file

    differences = []
    for seed in seeds:
        left, right = (load_file(folder / f"seed{seed}" / _ADAPTER) for folder in (one, other))
        if left.keys() != right.keys():
            raise SystemExit(f"the adapters of seed {seed} have other tensors")
        differences += [float(abs(left[key] - right[key]).max()) for key in left]
    return max(differences)


def seeds_of(text: str) -> list[int]:
    """The seeds of a range such as 42-49."""
    first, _, last = text.partition("-")
    return list(range(int(first), int(last or first) + 1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="quickstart")
    parser.add_argument("--seeds", type=seeds_of, default=seeds_of("42-49"), help="a range")
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--keys", nargs="*", default=[], help="recipe keys, KEY=VALUE")
    options = parser.parse_args()
    train, ways = ["train", options.recipe, *options.keys], {"separately": separately, "together": together}
    time_ratios, peak_ratios, difference = [], [], 0.0
    for pair in range(options.pairs):
        with tempfile.TemporaryDirectory() as folder:
            places = {name: Path(folder) / name for name in ways}
            found = {
                name: ways[name](train, options.seeds, places[name]) for name in random.Random(pair).sample([*ways], 2)
            }
            difference = max(difference, largest_difference(*places.values(), options.seeds))
        apart, joined = found["separately"], found["together"]
        time_ratios.append(joined.seconds / apart.seconds)
        peak_ratios.append(joined.peak / apart.peak)
        print(
            f"pair {pair + 1}: separately {apart.seconds:.1f} s, {apart.peak >> 20} MiB; "
            f"together {joined.seconds:.1f} s, {joined.peak >> 20} MiB",
            flush=True,
        )
    print(f"together / separately: time {statistics.median(time_ratios):.3f}")
    print(f"together / one run: peak memory {statistics.median(peak_ratios):.3f}")
    print(f"adapters of the same seed differ by at most {difference:g}")


if __name__ == "__main__":
    main()
