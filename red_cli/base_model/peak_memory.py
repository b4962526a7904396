"""Peak memory, and detection of out-of-memory errors."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

import psutil
import torch

from red_cli.distributed.device import chosen_device, peak_memory, reset_peak_memory

_STATUS = Path("/proc/self/status")
_TEXTS = ("can't allocate memory", "out of memory")  # of CPUs, and of devices that raise no OutOfMemoryError
_CLEAR_PEAK = Path("/proc/self/clear_refs")


def peak_bytes(device: torch.device) -> int:
    """The peak memory in bytes: of `device`, or of this process where a device measures none."""
    if (measured := peak_memory(device)) is not None:
        return measured
    if sys.platform == "win32":
        return psutil.Process().memory_info().peak_wset
    if _STATUS.is_file():  # Linux; ru_maxrss would start at the peak of the parent process
        peak = next((line for line in _STATUS.read_text().splitlines() if line.startswith("VmHWM:")), None)
        if peak is not None:
            return int(peak.split()[1]) * 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def reset_peak() -> None:
    """Reset the peak, where the system allows it, because several runs may share a process."""
    reset_peak_memory(chosen_device())
    with contextlib.suppress(OSError):
        _CLEAR_PEAK.write_text("5")


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that the peak memory exceeded what there is, by its class or its text."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        isinstance(error, RuntimeError) and any(text in str(error) for text in _TEXTS)
    )
