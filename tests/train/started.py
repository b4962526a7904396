"""Start `red` as a user does: in a new process, which may start others."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from safetensors.torch import load_file

from red_cli.edit.adapter_config import WEIGHTS_FILE
from tests.tiny import read_lines

PATIENCE = 240.0


@dataclass
class Started:
    """A running `red` command."""

    process: subprocess.Popen[str]
    run: Path | None
    family: list[psutil.Process] = field(default_factory=list)

    def wait(self) -> tuple[int, str, str]:
        """Exit code, standard output, standard error."""
        out, err = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, out, err

    def wait_for_step(self, step: int) -> None:
        """Wait until the run's log has this step, or until the process ends."""
        until = time.monotonic() + PATIENCE
        while self.process.poll() is None and time.monotonic() < until:
            if self.run is not None and (self.run / "log.jsonl").is_file() and logged(self.run) >= step:
                return
            time.sleep(0.02)

    def workers(self) -> list[psutil.Process]:
        """The processes that train, in the order of ranks."""
        found = [one for one in psutil.Process(self.process.pid).children() if "red_cli" in one.cmdline()]
        return sorted(found, key=lambda one: int(one.environ()["RANK"]))

    def kill(self) -> None:
        """Send SIGKILL to the command and to all processes that it started."""
        try:
            family = [*psutil.Process(self.process.pid).children(recursive=True), psutil.Process(self.process.pid)]
        except psutil.NoSuchProcess:
            family = []
        for one in family:
            try:
                one.kill()
            except psutil.NoSuchProcess:
                continue
        self.process.communicate(timeout=PATIENCE)


def logged(run: Path) -> int:
    lines = (run / "log.jsonl").read_text().split("\n")[:-1]
    return len([line for line in lines if '"loss"' in line])


def start(*arguments: object, run: Path | None = None, command: tuple[str, ...] = ("-m", "red_cli")) -> Started:
    """Start `red` with `arguments` in one thread."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        environment.pop(name, None)
    output = [] if run is None else [f"output.dir={run}"]
    line = [sys.executable, *command, *(str(argument) for argument in arguments), *output]
    process = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    return Started(process, run)


def train(recipe: Path, run: Path, *arguments: object) -> tuple[int, str, str]:
    """Run `red train` to its end."""
    return start("train", recipe, *arguments, run=run).wait()


def losses(run: Path) -> list[float]:
    """The loss of every step."""
    return [line["loss"] for line in read_lines(run / "log.jsonl") if "loss" in line]


def largest_difference(one: Path, other: Path) -> float:
    """The largest absolute difference between the adapters of two runs."""
    left, right = (load_file(run / "adapter" / WEIGHTS_FILE) for run in (one, other))
    assert left.keys() == right.keys()
    return max((left[key] - right[key]).abs().max().item() for key in left)


def adapter_bytes(run: Path) -> bytes:
    return (run / "adapter" / WEIGHTS_FILE).read_bytes()
