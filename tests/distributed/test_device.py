"""Every command computes on the device that Accelerate chooses. No such device is here: its choice is faked."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from accelerate import PartialState
from accelerate.state import AcceleratorState

from red_cli.base_model.peak_memory import out_of_memory
from red_cli.distributed import device as devices
from red_cli.distributed import launch
from red_cli.inference import runtime
from red_cli.tasks.base import moved
from red_cli.train import generators, resources
from tests.end_to_end.test_instruction_tuning import talk_data, talk_recipe, talking_base

# As torch names them; NPUs are a private-use device with a name of their own, which stock torch does not know.
KINDS = ["mps", "xpu", "privateuseone"]
# kind -> shares the machine's memory, prefers bfloat16, AdamW in one kernel, sums float64
ABILITIES = {
    "cpu": (True, False, True, True),
    "cuda": (False, True, True, True),
    "mps": (True, False, True, False),
    "xpu": (False, True, True, False),
    "privateuseone": (False, True, False, False),
}


@pytest.fixture
def choose(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], torch.device]]:
    """Let Accelerate choose a device of a kind."""

    def chosen(kind: str) -> torch.device:
        device = torch.device(kind)
        monkeypatch.setattr(PartialState, "default_device", property(lambda state: device))
        monkeypatch.setattr(torch.xpu, "reset_peak_memory_stats", lambda: None)
        return device

    AcceleratorState._reset_state(reset_partial_state=True)
    yield chosen
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[torch.device]:
    """The devices that models were to be moved to; the command ends there."""
    found: list[torch.device] = []

    def record(model: object, device: torch.device) -> None:
        found.append(device)
        raise RuntimeError("there is none")

    for module in (resources, runtime):
        monkeypatch.setattr(module, "to_device", record)
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_the_choice_is_accelerates(choose: Callable, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    device = choose(kind)
    assert devices.chosen_device() == device
    assert not PartialState._shared_state  # nothing has joined a process group
    assert PartialState().device == device == devices.chosen_device()
    PartialState._reset_state()
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    assert devices.chosen_device() == devices.CPU
    monkeypatch.setenv("ACCELERATE_TORCH_DEVICE", "cuda:1")
    assert devices.chosen_device() == PartialState().device == torch.device("cuda:1")


def test_a_tensor_on_the_cpu_is_not_copied_there(choose: Callable) -> None:
    """A base whose files are mapped stays so: several processes share the pages."""
    choose("cpu")
    PartialState().device = torch.device("cpu:0")  # as on several processes
    tensor = torch.ones(2)
    assert tensor.to(PartialState().device) is not tensor
    assert tensor.to(devices.chosen_device()) is tensor


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("command", ["train", "eval", "predict"])
def test_a_command_asks_for_it(
    red: Callable, choose: Callable, asked: list, finished: Path, recipe: Path, command: str, kind: str
) -> None:
    device = choose(kind)
    arguments = {
        "train": [recipe, f"output.dir={finished.parent / 'other'}", "train.rates=absolute"],
        "eval": [finished],
        "predict": [finished, "--text", "a"],
    }
    outcome = red(command, *arguments[command])
    assert asked == [device], outcome.err


@pytest.mark.parametrize("command", ["train", "eval"])
def test_a_named_device_becomes_the_current_one(
    red: Callable,
    choose: Callable,
    asked: list,
    finished: Path,
    recipe: Path,
    monkeypatch: pytest.MonkeyPatch,
    command: str,
) -> None:
    current: list[torch.device] = []
    choose("xpu")
    monkeypatch.setattr(torch.xpu, "set_device", current.append)
    monkeypatch.setenv("ACCELERATE_TORCH_DEVICE", "xpu:1")
    arguments = {"train": [recipe, f"output.dir={finished.parent / 'one'}", "train.rates=absolute"], "eval": [finished]}
    outcome = red(command, *arguments[command])
    assert asked == current == [torch.device("xpu:1")], outcome.err


def test_so_does_chat(
    red: Callable, choose: Callable, asked: list, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = talk_recipe(tmp_path, talking_base(tmp_path / "base"), talk_data(tmp_path / "data"))
    with monkeypatch.context() as patch:
        patch.undo()
        patch.setattr(resources, "to_device", lambda model, device: model.to(device))
        assert red("train", recipe, "train.max_steps=1").code == 0
    asked.clear()
    AcceleratorState._reset_state(reset_partial_state=True)
    monkeypatch.setattr("sys.stdin", io.StringIO("bcd\n"))
    device = choose("mps")
    red("chat", tmp_path / "run")
    assert asked == [device]


@pytest.mark.parametrize("kind", ABILITIES)
def test_abilities(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.setattr(devices, "is_bf16_available", lambda **options: True)
    monkeypatch.setattr(torch.amp, "is_autocast_available", lambda kind: True)
    device = torch.device(kind)
    able = (devices.shares_memory, devices.prefers_bf16, devices.fuses_adamw, devices.sums_float64)
    assert tuple(function(device) for function in able) == ABILITIES[kind]
    monkeypatch.setattr(devices, "is_bf16_available", lambda **options: False)
    assert not devices.prefers_bf16(device)


def as_cuda(calls: list[str]) -> dict[str, Any]:
    """The functions of a module that does as torch.cuda does, as torch.xpu and torch.npu do."""
    state = [torch.tensor([1])]
    return {
        "device_count": lambda: 2,
        "empty_cache": lambda: calls.append("empty_cache"),
        "get_device_properties": lambda device: SimpleNamespace(total_memory=7),
        "max_memory_allocated": lambda device: 5,
        "reset_peak_memory_stats": lambda: calls.append("reset_peak_memory_stats"),
        "get_rng_state": lambda: state[0],
        "set_rng_state": lambda new: state.__setitem__(0, new),
    }


def as_mps(calls: list[str]) -> dict[str, Any]:
    functions = as_cuda(calls)
    like_cuda = {name: functions[name] for name in ("empty_cache", "get_rng_state", "set_rng_state")}
    others = {"device_count": lambda: 1, "recommended_max_memory": lambda: 7, "driver_allocated_memory": lambda: 5}
    return like_cuda | others


@pytest.mark.parametrize(("kind", "make"), [("mps", as_mps), ("xpu", as_cuda), ("npu", as_cuda)])
def test_measures_and_generators(monkeypatch: pytest.MonkeyPatch, kind: str, make: Callable) -> None:
    calls: list[str] = []
    monkeypatch.setattr(torch, kind, SimpleNamespace(**make(calls)), raising=False)
    device: Any = SimpleNamespace(type=kind, index=None)
    assert devices.device_count(device) == (1 if kind == "mps" else 2)
    assert (devices.device_memory(device, 4), devices.peak_memory(device)) == (7, 5)
    devices.empty_cache(device)
    devices.reset_peak_memory(device)
    assert calls == ["empty_cache"] + ["reset_peak_memory_stats"] * (kind != "mps")
    before = torch.get_rng_state()
    with devices.forked_generators(device):
        devices.set_generator_state(device, torch.tensor([2]))
        torch.rand(1)
    assert devices.generator_state(device).tolist() == [1]
    assert torch.equal(torch.get_rng_state(), before)
    saved = generators.generator_states(device)
    devices.set_generator_state(device, torch.tensor([3]))
    generators.restore_generators(saved, device)
    assert devices.generator_state(device).tolist() == [1]
    generators.restore_generators(saved, devices.CPU)  # resumed where there is no such device


@pytest.mark.parametrize(("kind", "found"), [("mps", (1, "GPU")), ("xpu", (2, "GPUs")), ("npu", (2, "NPUs"))])
def test_a_process_for_each(monkeypatch: pytest.MonkeyPatch, kind: str, found: tuple[int, str]) -> None:
    module = SimpleNamespace(**(as_mps if kind == "mps" else as_cuda)([]))
    monkeypatch.setattr(torch, kind, module, raising=False)
    monkeypatch.setattr(devices, "chosen_device", lambda: SimpleNamespace(type=kind, index=None))
    assert launch.visible_devices() == found
    monkeypatch.setenv("ACCELERATE_TORCH_DEVICE", "xpu:1")  # stock torch knows no npu
    assert launch.visible_devices()[0] == 1


def test_only_copies_to_cuda_go_on_meanwhile() -> None:
    """PyTorch's issues 139550 and 189690: a copy to MPS may read its source when that is already freed."""
    asked = []
    tensor: Any = SimpleNamespace(to=lambda device, non_blocking: asked.append(non_blocking))
    for kind in ABILITIES:
        moved(tensor, torch.device(kind))
    assert dict(zip(ABILITIES, asked, strict=True)) == {kind: kind == "cuda" for kind in ABILITIES}


@pytest.mark.parametrize(
    ("error", "found"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), True),
        (RuntimeError("MPS backend out of memory (MPS allocated: 9 GB, max allowed: 9 GB)"), True),
        (RuntimeError("NPU out of memory. Tried to allocate 2 GiB"), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), True),
        (RuntimeError("shapes do not match"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_out_of_memory(error: Exception, found: bool) -> None:
    assert out_of_memory(error) == found
