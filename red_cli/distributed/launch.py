"""Run one command in many processes, by Accelerate's launcher."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from typing import Any

import psutil

from red_cli.distributed.worker import LAUNCHER, STARTED, Failure, is_worker, read_failure
from red_cli.errors import Interrupted, RedError, RunFailed, UserError
from red_cli.recipe.sections import Launch
from red_cli.subprocesses import import_path, known_signals, passing_on

_USUAL_PORT = 29500
_SHUTDOWN_SECONDS = 15  # for the others once one has failed; then they are killed
_STOPPING = known_signals("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1")
_LEFT_ALONE = "SIGQUIT"  # all that the launcher is to handle by itself


def visible_devices() -> tuple[int, str]:
    """How many processes this machine has room for, and what they would run on."""
    import torch

    if torch.cuda.is_available():
        count = torch.cuda.device_count()
        return count, "GPU" if count == 1 else "GPUs"
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return cores, "core" if cores == 1 else "cores"


def processes_to_start(launch: Launch) -> int:
    """How many processes, on all machines together, are to be started for a command; 1: it runs where it is.

    A process that a launcher started starts no others.

    Raises:
        UserError: more processes than devices.
    """
    if is_worker() or launch.strategy == "single":
        return 1
    if launch.num_machines == 1 and launch.num_processes == 1:
        return 1
    devices, what = visible_devices()
    wanted = launch.num_processes
    if wanted is None:
        return launch.num_machines * (devices if what.startswith("GPU") else 1)
    here = wanted // launch.num_machines
    if here > devices:
        raise UserError(
            "invalid-launch",
            f"launch.num_processes: {here} processes on this machine, which has {devices} {what}",
            hint="Ask for fewer, or leave it out: one for each device.",
        )
    return wanted


def start_processes(arguments: Sequence[str], launch: Launch, count: int) -> None:
    """Run `red` with `arguments` in `count` processes, this machine's share of them here, until all are done.

    Only the main process shows anything. Ctrl-C and requests to end are passed on, so that the run can save its work.

    Raises:
        RedError: what the first process to fail reported; the others are ended.
        UserError: the machines do not find each other.
    """
    import logging

    from accelerate.commands.launch import launch_command, launch_command_parser
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    if not os.environ.get("RED_DEBUG"):  # it says in its own words what is said below
        logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    options = launch_command_parser().parse_args(launcher_arguments(arguments, launch, count))
    options.signals_to_handle = _LEFT_ALONE
    options.shutdown_timeout = _SHUTDOWN_SECONDS
    os.environ["PYTHONPATH"] = import_path()
    os.environ[STARTED], os.environ[LAUNCHER] = str(count), str(os.getpid())
    with passing_on(_STOPPING, _pass_on) as asked:
        try:
            launch_command(options)
        except ChildFailedError as error:
            raise _first_failure(error.failures, bool(asked)) from None
        except (OSError, RuntimeError, TimeoutError) as error:
            if launch.num_machines == 1:
                raise
            raise _unreachable(launch, error) from error


def launcher_arguments(arguments: Sequence[str], launch: Launch, count: int) -> list[str]:
    """The arguments of `accelerate launch` for `red` with `arguments`."""
    from red_cli.distributed.processes import free_port

    here = count // launch.num_machines
    threads = os.environ.get("OMP_NUM_THREADS") or str(max(1, (os.cpu_count() or 1) // here))
    options = [
        "--multi_gpu", "--num_processes", str(count), "--num_machines", str(launch.num_machines),
        "--machine_rank", str(launch.machine_rank), "--mixed_precision", "no", "--dynamo_backend", "no",
        "--num_cpu_threads_per_process", threads,
    ]  # fmt: skip
    if launch.num_machines > 1:
        port = launch.main_process_port or _USUAL_PORT
        options += [
            "--same_network", "--main_process_ip", str(launch.main_process_ip), "--main_process_port", str(port),
            "--rdzv_backend", "static", "--rdzv_conf", f"timeout={int(launch.timeout)}",
        ]  # fmt: skip
    else:
        options += ["--main_process_port", str(launch.main_process_port or free_port())]
    return [*options, "--module", "red_cli", *arguments]


def _pass_on(number: int) -> None:
    """Pass what asks this process to stop on to those that it started."""
    started = psutil.Process().children()
    if not started:
        raise KeyboardInterrupt
    for process in started:
        with_signal(process, number)


def with_signal(process: psutil.Process, number: int) -> None:
    """Send a signal to a process that may be gone."""
    try:
        process.send_signal(number)
    except psutil.NoSuchProcess:
        return


def _first_failure(failures: dict[int, Any], asked: bool) -> RedError:
    """The failure that the others followed from: of those reported, the first."""
    reported = [(rank, failure, read_failure(failure.error_file)) for rank, failure in sorted(failures.items())]
    killed = [(rank, failure.exitcode) for rank, failure, report in reported if report is None]
    known = [report for _, _, report in reported if report is not None]
    if asked and not any(report.exit_code not in (0, Interrupted.exit_code) for report in known):
        said = next(iter(known), None)
        return Interrupted(
            "interrupted", "interrupted" if said is None else said.message, hint=said.hint if said else None
        )
    if killed and not any(report.exit_code == UserError.exit_code for report in known):
        rank, code = min(killed, key=lambda end: end[1] == -signal.SIGTERM)  # how the others are ended once one fails
        return RunFailed(
            "process-failed", f"process {rank} {_ending(code)}", hint="RED_DEBUG=1 shows what each process has to say."
        )
    first = min(known, key=lambda report: report.when)
    return as_error(first)


def as_error(failure: Failure) -> RedError:
    """What a process reported, as the error it was."""
    kinds = {kind.exit_code: kind for kind in (RunFailed, UserError, Interrupted)}
    if os.environ.get("RED_DEBUG"):
        return RunFailed(failure.code, f"{failure.trace}\n{failure.message}", hint=failure.hint)
    return kinds.get(failure.exit_code, RunFailed)(failure.code, failure.message, hint=failure.hint)


def _ending(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    memory = "; that is how a machine ends processes when its memory runs out" if name == "SIGKILL" else ""
    return f"was ended by {name}{memory}"


def _unreachable(launch: Launch, error: Exception) -> RedError:
    address = f"{launch.main_process_ip}:{launch.main_process_port or _USUAL_PORT}"
    if launch.machine_rank == 0:
        return UserError(
            "invalid-launch",
            f"launch: the other {launch.num_machines - 1} machines did not come to {address} within "
            f"{launch.timeout:g} s, or it cannot be listened on",
            hint="Give the same command on each, with launch.machine_rank=1, 2, …; launch.timeout waits longer.",
        )
    return UserError(
        "invalid-launch",
        f"launch: the main machine did not answer at {address} within {launch.timeout:g} s",
        hint="Start it there with launch.machine_rank=0, and check launch.main_process_ip, the port and the firewall.",
    )
