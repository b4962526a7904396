"""The memory of a machine for all of its processes, foretold from a configuration without weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from transformers import AutoConfig, AutoModelForSequenceClassification, LlamaConfig

from red_cli.api import train_recipe
from red_cli.base_model import base_dtype
from red_cli.base_model.load import load_skeleton
from red_cli.distributed import launch as launching
from red_cli.distributed.process_group import SINGLE_PROCESS, Processes
from red_cli.edit.model_kinds import DECODER, SEQUENCE_CLASSIFIER
from red_cli.errors import RunFailed
from red_cli.plan import host_memory as planning
from red_cli.plan.host_memory import HostMemory, host_memory, require_host_memory
from red_cli.plan.strategy import StrategyChoice
from red_cli.recipe.load import load_recipe
from red_cli.recipe.sections import Launch
from red_cli.train import start
from tests import tiny

BASE, LARGEST = 2 * 68_976_648_192, 2 * 32000 * 8192  # bytes of Llama-2-70B and of its largest tensor, in 16 bits
GIB = 2**30
# launch, dtype, device, processes -> the base's bytes on the machine: loading, training
CASES: dict[str, tuple[dict, str, str, int, float, float]] = {
    # 8 processes on one machine
    "ddp": ({"strategy": "ddp"}, "bfloat16", "cpu", 8, 8 * (BASE + LARGEST), 8 * BASE),
    "fsdp": ({"strategy": "fsdp"}, "bfloat16", "cpu", 8, BASE + 8 * LARGEST, BASE),
    "fsdp, the dtype of the files": ({"strategy": "fsdp"}, "auto", "cpu", 8, BASE + 8 * LARGEST, BASE),
    "fsdp in groups of 4": ({"strategy": "fsdp", "shard_size": 4}, "bfloat16", "cpu", 8,
                            2 * BASE + 8 * LARGEST, 2 * BASE),
    "fsdp on two machines": ({"strategy": "fsdp", "num_machines": 2}, "bfloat16", "cpu", 8,
                             BASE / 2 + 4 * LARGEST, BASE / 2),
    # on GPUs a chunk is moved as soon as it is cut
    "fsdp on GPUs": ({"strategy": "fsdp"}, "bfloat16", "cuda", 8, 8 * LARGEST, 0),
    "zero3 with offload on GPUs": ({"strategy": "zero3", "offload": True}, "bfloat16", "cuda", 8,
                                  BASE + 8 * LARGEST, BASE),
    "one GPU": ({"strategy": "single"}, "bfloat16", "cuda", 1, BASE + LARGEST, 0),
}  # fmt: skip


@pytest.fixture(scope="module")
def llama_70b():
    sizes = {"hidden_size": 8192, "intermediate_size": 28672, "num_hidden_layers": 80, "num_attention_heads": 64}
    return LlamaConfig(vocab_size=32000, num_key_value_heads=8, dtype="float16", tie_word_embeddings=False, **sizes)


@pytest.mark.parametrize("case", CASES)
def test_a_base_of_70_billion_parameters(case: str, llama_70b: LlamaConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    launch, dtype, device, count, loading, training = CASES[case]
    recipe = load_recipe("ultrafeedback", overrides=[f"model.dtype={dtype}"]).recipe
    recipe = recipe.model_copy(update={"launch": Launch(main_process_ip="x", **launch)})
    model = load_skeleton(llama_70b, recipe.model, DECODER)
    monkeypatch.setattr(base_dtype, "computes_well_in", lambda device, dtype: True)
    monkeypatch.setattr(planning.psutil.Process, "memory_info", lambda process: type("M", (), {"rss": GIB}))
    choice = StrategyChoice(launch["strategy"])
    host = host_memory(model, llama_70b, recipe, None, choice, count, torch.device(device))
    here = count // launch.get("num_machines", 1)
    assert host.processes == here
    assert host.loading - here * GIB == pytest.approx(loading, abs=count)
    blocks = 2 * 855_654_400 * 2 * here if choice.sharded and device == "cpu" else 0  # gathered, of 16 bits
    assert host.training - here * GIB == pytest.approx(training + blocks, rel=1e-6, abs=count)


# dtype of the files, that of the recipe, method, strategy, device -> the bases in the memory of a machine with two
# processes: loading, training
MAPPED = {
    ("float32", "float32", "red", "ddp", "cpu"): (1, 1),
    ("bfloat16", "bfloat16", "red", "ddp", "cpu"): (1, 1),
    ("bfloat16", "float32", "red", "ddp", "cpu"): (2, 2),  # each process converts its own
    ("float64", "float32", "red", "ddp", "cpu"): (2, 2),
    ("float32", "float32", "full", "ddp", "cpu"): (2, 2),  # and trains its own
    # from the files to the device, tensor by tensor
    ("float32", "float32", "red", "ddp", "cuda"): (0, 0),
    ("bfloat16", "bfloat16", "red", "zero2", "cuda"): (0, 0),
    ("float32", "float32", "full", "ddp", "cuda"): (0, 0),
    ("float32", "float32", "bitfit", "zero3", "cuda"): (0, 0),  # all of it in each process, before it is sharded
    ("bfloat16", "float32", "red", "ddp", "cuda"): (2, 0),
    ("float64", "float32", "bitfit", "zero3", "cuda"): (2, 0),
    ("bfloat16", "bfloat16", "red", "ddp", "mps"): (2, 2),  # whose memory is the machine's
}


@pytest.mark.parametrize(("stored", "loaded", "method", "strategy", "device"), MAPPED)
def test_a_base_that_stays_in_its_files(
    stored: str, loaded: str, method: str, strategy: str, device: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = AutoConfig.for_model("bert", **tiny.ENCODERS["bert"])
    AutoModelForSequenceClassification.from_config(config, dtype=getattr(torch, stored)).save_pretrained(tmp_path)
    keys = [
        f"model.name_or_path={tmp_path}",
        f"model.dtype={loaded}",
        f"method={method}",
        f"launch.strategy={strategy}",
    ]
    recipe = load_recipe("quickstart", overrides=keys).recipe
    model = load_skeleton(config, recipe.model, SEQUENCE_CLASSIFIER)
    monkeypatch.setattr(planning.psutil.Process, "memory_info", lambda process: type("M", (), {"rss": GIB}))
    host = host_memory(model, config, recipe, None, StrategyChoice(strategy), 2, torch.device(device))
    sizes = [parameter.numel() * getattr(torch, loaded).itemsize for parameter in model.parameters()]
    loading, training = MAPPED[stored, loaded, method, strategy, device]
    assert host.loading - 2 * GIB == loading * sum(sizes) + 2 * max(sizes)
    assert host.training - 2 * GIB == training * sum(sizes)


# On a machine with four GPUs: what plans a run, variables of Accelerate's launcher -> the processes of the plan
PLANNED: dict[str, tuple[Callable[[Callable, Path], object], dict[str, str], int]] = {
    "check": (lambda red, recipe: red("check", recipe, "--json").json["plan"]["host"]["processes"], {}, 4),
    "check by accelerate launch": (
        lambda red, recipe: red("check", recipe, "--json").json["plan"]["host"]["processes"],
        {"ACCELERATE_DYNAMO_MODE": "default"},
        1,
    ),
    "from Python": (lambda red, recipe: train_recipe(recipe), {}, 1),
    "together": (lambda red, recipe: red("train", recipe, "--seeds", "3,5", "--together"), {}, 1),
    "accelerate launch": (lambda red, recipe: red("train", recipe), {"ACCELERATE_DYNAMO_MODE": "default"}, 1),
}


@pytest.mark.parametrize("case", PLANNED)
def test_a_run_is_planned_for_the_processes_that_it_has(
    case: str, red: Callable, recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, variables, count = PLANNED[case]
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(launching, "visible_devices", lambda: (4, "GPUs"))
    planned = []

    def checked(host: HostMemory, processes: Processes) -> None:
        planned.append((host.processes, host.strategy))
        raise RunFailed("out-of-memory", "nothing is loaded")

    monkeypatch.setattr(start, "require_host_memory", checked)
    try:
        found = plan(red, recipe)
    except RunFailed:
        found = None
    assert planned == ([] if isinstance(found, int) else [(1, "single")])
    assert count == (found if isinstance(found, int) else planned[0][0])


# (processes, GiB to load, of the machine, of swap) of each rank -> what is said of the machine that lacks most
TOO_LITTLE: dict[str, tuple[list[tuple[int, int, int, int]], str | None]] = {
    "enough": ([(8, 12, 8, 4)], None),
    "one machine": ([(8, 13, 8, 4)],
                    "13.00 GiB of memory in 8 processes by ddp, and a machine has 8.00 GiB and 4.00 GiB of swap"),
    "one process": ([(1, 9, 8, 0)], "9.00 GiB of memory in 1 process by ddp, and a machine has 8.00 GiB"),
    "the second machine": (
        [(2, 20, 64, 0), (2, 20, 16, 2)],
        "20.00 GiB of memory in 2 processes by ddp, and a machine has 16.00 GiB and 2.00 GiB of swap",
    ),
    "both": (
        [(2, 20, 16, 0), (6, 60, 32, 0), (2, 20, 16, 0)],
        "60.00 GiB of memory in 6 processes by ddp, and a machine has 32.00 GiB",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", TOO_LITTLE)
def test_too_little_memory_is_said_before_anything_is_loaded(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ranks, text = TOO_LITTLE[case]
    hosts = [HostMemory(here, "ddp", load * GIB, 99 * GIB, own * GIB) for here, load, own, _ in ranks]
    gathered = [(host, swap * GIB) for host, (*_, swap) in zip(hosts, ranks, strict=True)]
    for host, own in gathered:
        monkeypatch.setattr(planning.psutil, "swap_memory", lambda own=own: SimpleNamespace(total=own))
        processes = SINGLE_PROCESS
        if len(ranks) > 1:
            processes = Processes(count=len(ranks))
            monkeypatch.setattr(Processes, "gather", lambda _, value: gathered if value in gathered else [])
        if text is None:
            require_host_memory(host, processes)
            continue
        with pytest.raises(RunFailed) as caught:
            require_host_memory(host, processes)
        assert caught.value.code == "out-of-memory"
        assert caught.value.message == f"loading the base takes about {text}"
        assert "fsdp" in str(caught.value.hint)
