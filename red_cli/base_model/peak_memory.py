"""Peak memory, and detection of out-of-memory errors."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

import psutil
import torch

_STATUS = Path("/proc/self/status")
_CLEAR_PEAK = Path("/proc/self/clear_refs")


def peak_bytes(device: torch.device) -> int:
    """The peak memory in bytes: of the GPU `device`, or of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
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
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    with contextlib.suppress(OSError):
        _CLEAR_PEAK.write_text("5")


def out_of_memory(error: BaseException) -> bool:
    """Detect an out-of-memory error, on CUDA or on a CPU, by its class or its text."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error)
