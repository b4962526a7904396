"""Export a random LLaMA of the wished size: peak memory, and time beside `cp -r` of the same folder.

    python benchmarks/export.py --billions 2 --work /tmp/bench_export

The base is bfloat16 in several shards. Each pair runs `cp -r`, then the whole command `red export … --no-verify` (with
its start-up), one right after the other; the medians are compared. The adapter records its base's digest as a training
run does, so that the check of it is timed too. torch is not imported here: what this process holds would count in the
peak of its children.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

_SHARD_BYTES = 1 << 30


def make_base(folder: Path, billions: float, shards: int | None) -> int:
    """Write a random LLaMA; returns its number of parameters."""
    import torch
    from safetensors.torch import save_file
    from transformers import LlamaConfig, LlamaForCausalLM

    width = 2048 if billions >= 1 else 1024
    inner, vocabulary = width * 4, 32_000
    per_layer = 4 * width * width + 3 * width * inner
    layers = round((billions * 1e9 - 2 * vocabulary * width) / per_layer)
    config = LlamaConfig(
        hidden_size=width, intermediate_size=inner, num_hidden_layers=layers, num_attention_heads=width // 64,
        num_key_value_heads=width // 64, vocab_size=vocabulary, architectures=["LlamaForCausalLM"], dtype="bfloat16",
    )  # fmt: skip
    with torch.device("meta"):
        model = LlamaForCausalLM(config)
    shapes = {name: parameter.shape for name, parameter in model.named_parameters()}
    total = sum(shape.numel() for shape in shapes.values())
    limit = _SHARD_BYTES if shards is None else 2 * total // shards + 1
    groups: list[list[str]] = [[]]
    size = 0
    for name, shape in shapes.items():
        if size and size + 2 * shape.numel() > limit:
            groups.append([])
            size = 0
        groups[-1].append(name)
        size += 2 * shape.numel()
    folder.mkdir(parents=True)
    places = {}
    torch.manual_seed(0)
    for number, names in enumerate(groups, 1):
        file = f"model-{number:05}-of-{len(groups):05}.safetensors"
        save_file(
            {name: torch.empty(shapes[name], dtype=torch.bfloat16).normal_(0, 0.02) for name in names},
            folder / file, metadata={"format": "pt"},
        )  # fmt: skip
        places |= dict.fromkeys(names, file)
    index = {"metadata": {"total_size": 2 * total}, "weight_map": places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    config.save_pretrained(folder)
    return total


def make_adapter(base: Path, folder: Path) -> None:
    """An adapter with random vectors at the FFN outputs, as a run on `base` would save it."""
    import torch
    from transformers import AutoConfig, LlamaForCausalLM

    from red_cli import RedConfig, attach, save_adapter
    from red_cli.base_model.digest import take_digest
    from red_cli.edit.attached_adapters import edits
    from red_cli.recipe.sections import Model

    config = AutoConfig.from_pretrained(base)
    with torch.device("meta"):
        model = LlamaForCausalLM(config)
    model.config._name_or_path = str(base)
    paths = attach(model, RedConfig())
    for path in paths:
        model.get_submodule(f"{path}.red").to_empty(device="cpu")
    with torch.no_grad():
        for _, edit in edits(model):
            edit.scale.normal_(1, 0.1)
            edit.bias.normal_(0, 0.1)
    record = take_digest(Model(name_or_path=str(base)), "red", paths)
    save_adapter(model, folder, base_digest=record.digest)


def timed(command: list[str]) -> tuple[float, float]:
    """(seconds, largest resident MiB) of a command."""
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - started
    if status != 0:
        raise SystemExit(f"failed: {' '.join(command)}")
    return seconds, usage.ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--billions", type=float, default=2.0)
    parser.add_argument("--shards", type=int, help="default: one for each GiB")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--work", type=Path, default=Path("/tmp/bench_export"), help="a folder with space for 3 models")
    parser.add_argument("--prepare", action="store_true", help="only make the model and its adapter")
    options = parser.parse_args()
    name = f"{options.billions:g}b-{options.shards or 'gib'}"
    base, adapter = options.work / f"base-{name}", options.work / f"adapter-{name}"
    if options.prepare:
        print("parameters", f"{make_base(base, options.billions, options.shards):,}")
        make_adapter(base, adapter)
        return
    if not adapter.is_dir():  # in a process of its own, which may import torch
        shutil.rmtree(base, ignore_errors=True)
        subprocess.run([sys.executable, *sys.argv, "--prepare"], check=True)
    copy, merged = options.work / "copy", options.work / "merged"
    red = [sys.executable, "-m", "red_cli", "export", str(adapter), "--output", str(merged), "--no-verify"]
    copying, exporting, memory = [], [], []
    for number in range(options.pairs + 1):
        for folder in (copy, merged):
            shutil.rmtree(folder, ignore_errors=True)
        seconds, _ = timed(["cp", "-r", str(base), str(copy)])
        shutil.rmtree(copy)
        export_seconds, peak = timed(red)
        if number:  # the first pair warms the page cache
            copying.append(seconds)
            exporting.append(export_seconds)
            memory.append(peak)
    size = sum(file.stat().st_size for file in base.iterdir())
    print(f"{name}: {size / 2**30:.2f} GiB in {len(list(base.glob('*.safetensors')))} shards")
    print(f"cp -r       {statistics.median(copying):.2f} s  {[round(value, 2) for value in copying]}")
    print(f"red export  {statistics.median(exporting):.2f} s  {[round(value, 2) for value in exporting]}")
    print(f"ratio       {statistics.median(exporting) / statistics.median(copying):.2f}")
    print(f"peak memory {max(memory):.0f} MiB")
    shutil.rmtree(merged)


if __name__ == "__main__":
    main()
