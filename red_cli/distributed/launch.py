"""Run a command in several processes, by Accelerate's launcher."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Sequence
from typing import Any

import psutil

from red_cli.distributed.accelerate_settings import started_alone
from red_cli.distributed.worker_process import LAUNCHER, STARTED, Failure, is_worker, read_failure
from red_cli.errors import Interrupted, RedError, RunFailed, UserError
from red_cli.recipe.sections import Launch
from red_cli.signals import known_signals, passing_on, send_signal
from red_cli.subprocesses import import_path

_USUAL_PORT = 29500
_SHUTDOWN_SECONDS = 15  # until the other processes are killed, once one has failed
_FORWARDED_SIGNALS = known_signals("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1")
_LAUNCHER_SIGNALS = "SIGQUIT"  # the only one that the launcher handles itself


def visible_devices() -> tuple[int, str]:
    """The number of devices of this machine to launch processes on, and their kind in words: GPUs, or else cores."""
    from red_cli.distributed.device import chosen_device, device_count, device_word, named_device

    device = chosen_device()
    if device.type != "cpu":
        named = named_device()
        count = device_count(device) if named is None or named.index is None else 1  # all processes would take that one
        return count, device_word(device) + ("" if count == 1 else "s")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return cores, "core" if cores == 1 else "cores"


def processes_to_start(launch: Launch) -> int:
    """The number of processes to start on all machines; 1 to run in this process, as in a worker.

    Raises:
        UserError: the recipe asks for more processes than this machine has devices.
    """
    if is_worker() or launch.strategy == "single":
        return 1
    wanted = launch.num_processes
    if launch.num_machines == 1 and (wanted == 1 or (wanted is None and started_alone())):
        return 1
    devices, what = visible_devices()
    if wanted is None:
        return launch.num_machines * (1 if what.startswith("core") else devices)
    here = wanted // launch.num_machines
    if here > devices:
        raise UserError(
            "invalid-launch",
            f"launch.num_processes: {here} processes on this machine, which has {devices} {what}",
            hint="Lower it, or omit it to start one for each device.",
        )
    return wanted


def start_processes(arguments: Sequence[str], launch: Launch, count: int) -> None:
    """Run `red` with `arguments` in `count` processes on all machines, and wait for those of this machine.

    Only rank 0 prints. Ctrl-C and termination signals are forwarded, so that the run can save its work.

    Raises:
        RedError: the failure of the first process that failed; the others are ended.
        UserError: the machines cannot connect to each other.
    """
    import logging

    from accelerate.commands.launch import launch_command, launch_command_parser
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    if not os.environ.get("RED_DEBUG"):  # the errors below replace the messages of torch's launcher and of its workers
        logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    options = launch_command_parser().parse_args(launcher_arguments(arguments, launch, count))
    options.signals_to_handle = _LAUNCHER_SIGNALS
    options.shutdown_timeout = _SHUTDOWN_SECONDS
    os.environ["PYTHONPATH"] = import_path()
    os.environ[STARTED], os.environ[LAUNCHER] = str(count), str(os.getpid())
    with passing_on(_FORWARDED_SIGNALS, _forward_signal) as asked:
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

    here = count // launch.num_machines
    threads = os.environ.get("OMP_NUM_THREADS") or str(max(1, (os.cpu_count() or 1) // here))
    options = [
        "--multi_gpu", "--num_processes", str(count), "--num_machines", str(launch.num_machines),
        "--machine_rank", str(launch.machine_rank), "--mixed_precision", "no", "--dynamo_backend", "no",
        "--num_cpu_threads_per_process", threads, "--gpu_ids", "all",
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


def _forward_signal(number: int) -> None:
    """Forward a signal of the launching process to the processes that it started.

    torch's launcher would also kill them after a while, in the middle of a long step or of a checkpoint.
    """
    started = psutil.Process().children()
    if not started:
        raise KeyboardInterrupt
    for process in started:
        send_signal(process, number)


def _first_failure(failures: dict[int, Any], asked: bool) -> RedError:
    """The failure that caused the others: the first that was reported.

    torch's `get_first_failure` compares whole seconds, and knows neither what a process reported nor who asked to stop.
    """
    reported = [(rank, failure, read_failure(failure.error_file)) for rank, failure in sorted(failures.items())]
    killed = [(rank, failure.exitcode) for rank, failure, report in reported if report is None]
    known = [report for _, _, report in reported if report is not None]
    if asked and not any(report.exit_code not in (0, Interrupted.exit_code) for report in known):
        if known:
            return Interrupted("interrupted", known[0].message, hint=known[0].hint)
        return Interrupted("interrupted", "interrupted")
    if killed and not any(report.exit_code == UserError.exit_code for report in known):
        rank, code = min(killed, key=lambda end: end[1] == -signal.SIGTERM)  # SIGTERM ends the others once one fails
        return RunFailed(
            "process-failed", f"process {rank} {_ending(code)}", hint="RED_DEBUG=1 shows the output of each process."
        )
    first = min(known, key=lambda report: report.when)
    return as_error(first)


def as_error(failure: Failure) -> RedError:
    """The error that a process reported."""
    kinds = {kind.exit_code: kind for kind in (RunFailed, UserError, Interrupted)}
    if os.environ.get("RED_DEBUG"):
        return RunFailed(failure.code, f"{failure.trace}\n{failure.message}", hint=failure.hint)
    return kinds.get(failure.exit_code, RunFailed)(failure.code, failure.message, hint=failure.hint)


def _ending(code: int) -> str:
    """Describe how a launched process ended: its exit code or the signal that ended it."""
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    memory = ", perhaps because the memory of the machine ran out" if name == "SIGKILL" else ""
    return f"was ended by {name}{memory}"


def _unreachable(launch: Launch, error: Exception) -> RedError:
    """The launch error when several machines did not connect: on the main machine, or on another one."""
    address = f"{launch.main_process_ip}:{launch.main_process_port or _USUAL_PORT}"
    if launch.machine_rank == 0:
        return UserError(
            "invalid-launch",
            f"launch: the other {launch.num_machines - 1} machines did not connect to {address} within "
            f"{launch.timeout:g} s, or the port is not free",
            hint="Run the same command on each, with launch.machine_rank=1, 2, …; launch.timeout waits longer.",
        )
    return UserError(
        "invalid-launch",
        f"launch: the main machine did not answer at {address} within {launch.timeout:g} s",
        hint="Start it there with launch.machine_rank=0, and check launch.main_process_ip, the port and the firewall.",
    )


def free_port() -> int:
    """A free port of this machine."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
