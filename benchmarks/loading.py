"""Peak memory of each of two processes until a random base is set up for training.

    python benchmarks/loading.py [--ways fsdp,bfloat16 zero3,bfloat16] [--layers 12] [--width 1024]
    python benchmarks/loading.py --base llama-0.7b --ways fsdp,bfloat16

The base is a GPT-2 of float16 files, or a LLaMA of 0.7 billion parameters in bfloat16.

Figures are shares of the base in the recipe's dtype. "complete" loads all of it in each process first.
"""

from __future__ import annotations

import json
import os
import tempfile
import threading
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import psutil
import torch
from measuring import parser_for
from two_ranks import RANK_FOLDER, make_llama_run, make_run, session_of, start_two_ranks, work_as_rank

from red_cli.base_model import load
from red_cli.base_model.peak_memory import peak_bytes, reset_peak
from red_cli.distributed.deepspeed_config import STAGE
from red_cli.distributed.device import CPU

_WAYS = ["fsdp,bfloat16", "fsdp,float16", "zero3,bfloat16", "ddp,bfloat16"]


def import_deepspeed() -> None:
    """Import DeepSpeed with what it imports later, as an engine is built: its modules are not the base's."""
    import deepspeed
    from deepspeed.runtime.zero.muon import muon_optimizer  # noqa: F401  imports torch's compiler

    dict(deepspeed.ops.__compatible_ops__)


def load_in_rank(folder: Path) -> None:
    """Measure the peak of loading on one of two processes: of all memory, and of what is no page of a file."""
    way = json.loads((folder / "load.json").read_text())
    strategy, dtype = way["strategy"], way["dtype"]
    if strategy in STAGE:
        import_deepspeed()
    if way["complete"]:
        load.keeping_chunks = load.returning_pages = lambda *arguments: nullcontext()
    own, done, start = [0], threading.Event(), {}

    def own_memory() -> int:
        status = Path("/proc/self/status").read_text()
        return int(status.split("RssAnon:")[1].split()[0]) * 1024

    def watch() -> None:
        while not done.wait(0.002):
            own[0] = max(own[0], own_memory())

    def before() -> None:
        reset_peak()
        start.update(all=psutil.Process().memory_info().rss, own=own_memory())
        threading.Thread(target=watch, daemon=True).start()

    session = session_of(folder, strategy, f"model.dtype={dtype}", "train.rates=absolute", before=before)
    done.set()
    size = session.counts.base * (2 if dtype != "float32" else 4)
    shares = [(peak_bytes(CPU) - start["all"]) / size, (own[0] - start["own"]) / size]
    (folder / f"shares{os.environ['RANK']}.json").write_text(json.dumps(shares))


def print_peaks(ways: list[tuple[str, str]], make_base: Callable[[Path], None]) -> None:
    """Print the peaks of loading by (strategy, dtype); `make_base` writes base and rows to a folder."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_base(folder)
        size = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
        print(f"peak until a base of {size / 2**20:.0f} MiB of 16 bits is set up, of each of two processes:")
        print(f"{'':28}{'all memory':>22}{'without pages of files':>26}{'complete':>22}")
        for strategy, dtype in ways:
            cells = []
            for complete in (False, True):
                content = {"strategy": strategy, "dtype": dtype, "complete": complete}
                (folder / "load.json").write_text(json.dumps(content))
                start_two_ranks(__file__, folder)
                cells += zip(*(json.loads((folder / f"shares{rank}.json").read_text()) for rank in "01"), strict=True)
            texts = [" and ".join(f"{share:.2f}" for share in cell) for cell in cells]
            print(
                f"{strategy + ', ' + dtype:28}{texts[0]:>22}{texts[1]:>26}{texts[2] + '; ' + texts[3]:>32}", flush=True
            )


def main() -> None:
    parser = parser_for(__doc__)
    parser.add_argument("--ways", nargs="+", default=_WAYS, help="strategies with a dtype")
    parser.add_argument("--base", choices=["gpt2", "llama-0.7b"], default="gpt2")
    parser.add_argument("--layers", type=int, default=12, help="of the GPT-2")
    parser.add_argument("--width", type=int, default=1024, help="of the GPT-2")
    arguments = parser.parse_args()
    ways = [(strategy, dtype) for strategy, dtype in (way.split(",") for way in arguments.ways)]
    gpt2 = partial(make_run, layers=arguments.layers, width=arguments.width, vocabulary=1024, dtype=torch.float16)
    print_peaks(ways, gpt2 if arguments.base == "gpt2" else make_llama_run)


if __name__ == "__main__":
    if RANK_FOLDER in os.environ:
        work_as_rank(load_in_rank)
    else:
        main()
