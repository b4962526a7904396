"""The device of this process, chosen by Accelerate for every command, and what its kind can do."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import is_bf16_available, parse_flag_from_env
from torch import Tensor

from red_cli.distributed.machine_memory import total_memory

CPU = torch.device("cpu")
USABLE_SHARE = 0.9  # of a device's memory
_WORDS = {"cpu": "CPU", "npu": "NPU", "mlu": "MLU", "hpu": "HPU"}  # all others are GPUs
_SHARES_MEMORY = ("cpu", "mps")  # with the machine
_COMPUTES_IN_FLOAT32 = ("cpu", "mps")  # unless the recipe says otherwise: bfloat16 is emulated on some of their kinds
_BF16_INSTRUCTIONS = ("avx512_bf16", "amx_bf16")  # of CPUs
_SUMS_FLOAT64 = ("cpu", "cuda")
_FUSES_ADAMW = ("cpu", "cuda", "mps", "xpu")  # in torch; other devices bring kernels of their own, not all of them this
_SKIPS_ADAMW = ("cpu", "cuda")  # tested there; AdamW in one kernel, which heeds `found_inf`
_READS_LATER = "cuda"  # whose copies to pinned memory can be waited for alone


def chosen_device() -> torch.device:
    """The device of this process: Accelerate's, which is a CPU if ACCELERATE_USE_CPU is set."""
    if PartialState._shared_state:
        own = PartialState().device  # that of this rank
        # On several processes it may be `cpu:0`, for which torch copies tensors that are on the CPU
        return CPU if own.type == "cpu" else own
    if (named := named_device()) is not None:
        return named
    if parse_flag_from_env("ACCELERATE_USE_CPU"):
        return CPU
    return PartialState.default_device.fget(None)  # a PartialState of its own could join a process group


def named_device() -> torch.device | None:
    """The device that Accelerate's variable names, if it is set."""
    named = os.environ.get("ACCELERATE_TORCH_DEVICE")
    return None if named is None else torch.device(named)


def has_accelerator() -> bool:
    """Whether the device of this process is not a CPU."""
    return chosen_device().type != "cpu"


def device_word(device: torch.device) -> str:
    """What a device is called in messages: CPU, GPU, NPU, …."""
    return _WORDS.get(device.type, "GPU")


def shares_memory(device: torch.device) -> bool:
    """Whether the memory of a device is the machine's: that of a CPU, and of Apple's GPUs."""
    return device.type in _SHARES_MEMORY


def prefers_bf16(device: torch.device) -> bool:
    """Whether a device computes in bfloat16 where the recipe leaves it open."""
    if device.type in _COMPUTES_IN_FLOAT32 or not torch.amp.is_autocast_available(device.type):
        return False
    return bool(is_bf16_available(ignore_tpu=True))


def computes_well_in(device: torch.device, dtype: str) -> bool:
    """Whether a base whose files are bfloat16 or float16 is to compute in that on a device, instead of float32.

    On a CPU with instructions for bfloat16, a step of training takes 0.6 to 0.7 of the time of float32; without them,
    twice the time. In float16 it takes 11 to 18 times. A CPU whose instructions torch does not tell has none.
    """
    if device.type != "cpu":
        return prefers_bf16(device)
    capabilities: Callable[[], Mapping[str, Any]] = getattr(torch.cpu, "get_capabilities", dict)  # of later torch
    known = capabilities()
    return dtype == "bfloat16" and any(known.get(name) for name in _BF16_INSTRUCTIONS)


def sums_float64(device: torch.device) -> bool:
    """Whether a device and its collectives know float64. MPS has none, and those of other devices refuse it."""
    return device.type in _SUMS_FLOAT64


def fuses_adamw(device: torch.device) -> bool:
    """Whether AdamW steps in one kernel on a device."""
    return device.type in _FUSES_ADAMW


def skips_adamw(device: torch.device) -> bool:
    """Whether AdamW on a device leaves out a step if its `found_inf` is 1, which the host need not know."""
    return device.type in _SKIPS_ADAMW


def reads_later(device: torch.device) -> bool:
    """Whether the host can read a tensor of a device without a wait for what the device does after it.

    Elsewhere a read costs nothing, as on a CPU, or waits for everything.
    """
    return device.type == _READS_LATER


def read_later(tensor: Tensor) -> Callable[[], list[float]]:
    """Start to copy a vector to the host; the function returned waits for this copy and gives the numbers."""
    if not reads_later(tensor.device):
        return tensor.tolist
    copy = torch.empty_like(tensor, device=CPU, pin_memory=True).copy_(tensor, non_blocking=True)
    copied = torch.cuda.Event()
    copied.record(torch.cuda.current_stream(tensor.device))

    def read() -> list[float]:
        copied.synchronize()
        return list(copy.tolist())

    return read


def device_count(device: torch.device) -> int:
    """The number of devices of this kind in the machine."""
    return int(_call(device, "device_count", 1))


def set_device(device: torch.device) -> None:
    """Make a device the current one of its kind; a kind with one device needs none."""
    if device.index is not None:
        _call(device, "set_device", None, device)


def empty_cache(device: torch.device) -> None:
    """Return the unused memory of a device's allocator."""
    _call(device, "empty_cache", None)


def device_memory(device: torch.device, processes_here: int) -> int:
    """The memory in bytes that may be used in one process: that of its device, or its share of the machine's."""
    properties = _call(device, "get_device_properties", None, device)
    if (total := getattr(properties, "total_memory", None)) is not None:
        return int(total)
    if recommended := _call(device, "recommended_max_memory", 0):  # of MPS
        return int(recommended)
    return total_memory() // processes_here


def peak_memory(device: torch.device) -> int | None:
    """What a device reports as its peak memory in bytes; None if it measures none.

    MPS measures no peak. What its allocator holds is close to it, since it returns memory only when it is asked to.
    """
    peak = _call(device, "max_memory_allocated", None, device)
    return _call(device, "driver_allocated_memory", None) if peak is None else int(peak)


def reset_peak_memory(device: torch.device) -> None:
    """Have a device measure its peak memory from here on."""
    _call(device, "reset_peak_memory_stats", None)


def generator_state(device: torch.device) -> Tensor | None:
    """The state of a device's random generator; None for a CPU, whose generator is torch's own."""
    return _call(device, "get_rng_state", None)


def set_generator_state(device: torch.device, state: Tensor) -> None:
    """Restore what `generator_state` returned on a device of the same kind."""
    _call(device, "set_rng_state", None, state)


@contextmanager
def forked_generators(device: torch.device) -> Iterator[None]:
    """Draw random numbers inside the block, on the CPU and on a device, without an effect on those after it.

    `torch.random.fork_rng` of earlier versions forks CUDA's generators alone.
    """
    state, on_device = torch.get_rng_state(), generator_state(device)
    try:
        yield
    finally:
        torch.set_rng_state(state)
        if on_device is not None:
            set_generator_state(device, on_device)


def _call(device: torch.device, name: str, otherwise: Any, *arguments: Any) -> Any:
    """What a function of torch's module for a kind of device returns; `otherwise` if it has none, as of a CPU."""
    function = None if device.type == "cpu" else getattr(getattr(torch, device.type, None), name, None)
    return otherwise if function is None else function(*arguments)
