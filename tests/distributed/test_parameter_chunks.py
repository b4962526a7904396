"""While a base loads, each rank keeps its chunk of each matrix: together they are what one process loads."""

from __future__ import annotations

import ctypes
import gc
import sys
import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from red_cli.base_model.load import load_base, load_config
from red_cli.distributed.device import CPU
from red_cli.distributed.parameter_chunks import Sharding, chunk_of, keeping_chunks, tie_chunks
from red_cli.distributed.process_group import SINGLE_PROCESS, Processes
from red_cli.edit.model_kinds import DECODER
from red_cli.recipe.sections import Model
from tests.tiny import tiny_model

RANKS = 3  # divides few of the sizes
# Conv1D and tied embeddings; experts that are merged; renamed parameters of a norm; parts kept in float32
ARCHITECTURES = ["gpt2", "mixtral", "bert", "t5"]


def saved(architecture: str, folder: Path, form: str) -> type:
    """Save a tiny model in a form of files; its class."""
    model = tiny_model(architecture)
    kind = type(model)
    if form == "bin":
        model.config.save_pretrained(folder)
        old = {name.replace("LayerNorm.weight", "LayerNorm.gamma"): value for name, value in model.state_dict().items()}
        torch.save(old, folder / "pytorch_model.bin")
    elif form == "float16 in several files":
        model.half().save_pretrained(folder, max_shard_size="20KB")
        assert len([*folder.glob("*.safetensors")]) > 2
    else:
        model.save_pretrained(folder)
    return kind


@pytest.mark.parametrize("form", ["safetensors", "float16 in several files", "bin"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_chunks_of_all_ranks_are_the_complete_parameters(architecture: str, form: str, tmp_path: Path) -> None:
    kind = saved(architecture, tmp_path, form)
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        torch.manual_seed(0)
        whole = kind.from_pretrained(tmp_path, dtype=dtype)
        ranks = []
        for rank in range(RANKS):
            torch.manual_seed(0)
            sharding = Sharding(Processes(rank, RANKS), RANKS, CPU)
            with keeping_chunks(sharding):
                ranks.append(kind.from_pretrained(tmp_path, dtype=dtype))
            tie_chunks(ranks[-1], replace(sharding, processes=SINGLE_PROCESS))  # without messages
        cut = 0
        for name, parameter in whole.named_parameters(remove_duplicate=False):
            parts = [model.get_parameter(name) for model in ranks]
            assert all(part.shape == parameter.shape and part.dtype == parameter.dtype for part in parts), name
            chunks = [chunk_of(part) for part in parts]
            if chunks[0] is None:
                assert parameter.dim() == 1
                assert all(torch.equal(part, parameter) for part in parts), name
            else:
                cut += parameter.numel()
                assert torch.equal(torch.cat(chunks), parameter), name
                assert parts[0].untyped_storage().nbytes() == parameter.element_size()
                assert all(part.isnan().all() for part in parts)  # nothing can be computed with its place
        assert cut > 0.9 * sum(parameter.numel() for parameter in whole.parameters())
        for model in ranks:
            tied = [name for name, _ in model.named_parameters()]
            assert tied == [name for name, _ in whole.named_parameters()]
            for (name, buffer), (_, other) in zip(whole.named_buffers(), model.named_buffers(), strict=True):
                assert torch.equal(buffer, other), name


def test_what_is_not_loaded_from_files_stays_complete(tmp_path: Path) -> None:
    """A new head is drawn as on one process, and outside the block nothing is cut."""
    model = tiny_model("bert")
    model.base_model.save_pretrained(tmp_path)
    torch.manual_seed(3)
    head = type(model).from_pretrained(tmp_path).classifier.weight
    torch.manual_seed(3)
    with keeping_chunks(Sharding(Processes(0, RANKS), RANKS, CPU)):
        cut = type(model).from_pretrained(tmp_path)
    assert chunk_of(cut.classifier.weight) is None
    assert torch.equal(cut.classifier.weight, head)
    marked = nn.Parameter(torch.ones(4, 4))
    marked._is_hf_initialized = True
    outside = nn.Module()
    outside.weight = marked
    assert outside.weight is marked


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base of 96 MiB in float16."""
    folder = tmp_path_factory.mktemp("large")
    sizes = {"hidden_size": 512, "intermediate_size": 2048, "num_hidden_layers": 10, "num_attention_heads": 8}
    with torch.device("meta"):
        model = LlamaForCausalLM(LlamaConfig(vocab_size=4096, **sizes))
    model.to_empty(device="cpu").half().save_pretrained(folder)
    return folder


def own_memory() -> int:
    """The bytes of this process besides pages of files, which the system can drop."""
    return int(Path("/proc/self/status").read_text().split("RssAnon:")[1].split()[0]) * 1024


class OwnPeak:
    """The peak of `own_memory` inside the block, by a thread that looks at it again and again."""

    def __enter__(self) -> OwnPeak:
        self.bytes, self._done = own_memory(), threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def _watch(self) -> None:
        while not self._done.wait(0.001):
            self.bytes = max(self.bytes, own_memory())

    def __exit__(self, *error: object) -> None:
        self._done.set()
        self._thread.join()


def peak_of_loading(folder: Path, dtype: str, ranks: int) -> SimpleNamespace:
    """The peak of loading a base or, with several ranks, the chunk of one, and the base's size; in bytes."""
    model = Model(name_or_path=str(folder), dtype=dtype)
    config = load_config(model)
    sharding = Sharding(Processes(0, ranks), ranks, CPU) if ranks > 1 else None
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    before = own_memory()
    with OwnPeak() as peak:
        loaded, _ = load_base(model, config, DECODER, seed=0, sharding=sharding)
    return SimpleNamespace(taken=peak.bytes - before, size=sum(parameter.nbytes for parameter in loaded.parameters()))


@pytest.mark.skipif(sys.platform != "linux", reason="reads the memory as Linux has it")
@pytest.mark.parametrize(
    ("dtype", "ranks", "most"),
    [
        ("float16", 1, 0.2),  # the files' own dtype: pages of them
        ("float32", 1, 1.3),
        ("bfloat16", 1, 1.3),
        ("bfloat16", 2, 0.8),
        ("float16", 2, 0.8),
        ("bfloat16", 4, 0.6),
    ],
)
def test_the_peak_of_loading_is_what_is_kept_and_a_tensor(large: Path, dtype: str, ranks: int, most: float) -> None:
    peak = peak_of_loading(large, dtype, ranks)
    assert peak.taken < most * peak.size
