"""Whether a command computes in this process, or in several that it starts."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from red_cli import console
from red_cli.errors import UserError
from red_cli.progress import Terminal

if TYPE_CHECKING:
    from red_cli.recipe.sections import Launch


def started_elsewhere(launch: Launch, json: bool) -> bool:
    """Run this command in several processes if the user or the machine asks for them; return whether it was.

    Raises:
        RedError: a process failed, or so many cannot be started.
    """
    if launch.strategy == "single" or (launch.num_machines == 1 and launch.num_processes == 1):
        return False
    with Terminal(json_output=json) as terminal:
        terminal.status("starting")
        console.silence_libraries()
        from red_cli.distributed.launch import processes_to_start, start_processes

        count = processes_to_start(launch)
    if count > 1:
        start_processes(sys.argv[1:], launch, count)
    return count > 1


def require_one_process(launch: Launch, what: str, hint: str) -> None:
    """Check that neither the user nor a launcher asks for several processes to do `what`.

    Raises:
        UserError: one of them does.
    """
    from red_cli.distributed.worker_process import expected_processes

    count = max(expected_processes(), launch.num_processes or 1, launch.num_machines)
    if count > 1:
        raise UserError("invalid-launch", f"{what} takes one process, not {count}", hint=hint)


def require_predicting_processes(launch: Launch) -> None:
    """Check that the processes of a command that predicts do not use DeepSpeed, which only trains.

    Raises:
        UserError: it is one of DeepSpeed.
    """
    from red_cli.recipe.sections import DEEPSPEED

    if launch.strategy in DEEPSPEED:
        raise UserError(
            "invalid-launch",
            f"launch.strategy={launch.strategy} trains; predictions and evaluations do not use DeepSpeed",
            hint="launch.strategy=fsdp shards the base; without the key it is sharded where it fits on no device.",
        )
