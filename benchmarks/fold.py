"""Fold an adapter into a model in memory, beside multiplying its edited matrices once by a vector.

    python benchmarks/fold.py [--layers 8] [--width 2048] [--rounds 9]

The layers are a random LLaMA's, in float32 and in bfloat16. Both touch the same matrices; each is measured
alternately, on fresh ones, and the medians are compared.
"""

from __future__ import annotations

import statistics
import time

import torch
from measuring import parser_for
from transformers import LlamaConfig, LlamaForCausalLM

from red_cli import RedConfig, attach, fold


def model(dtype: torch.dtype, layers: int, width: int) -> LlamaForCausalLM:
    config = LlamaConfig(
        hidden_size=width, intermediate_size=4 * width, num_hidden_layers=layers, num_attention_heads=width // 64,
        vocab_size=1000,
    )  # fmt: skip
    return LlamaForCausalLM(config).to(dtype)


def main() -> None:
    parser = parser_for(__doc__)
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--width", type=int, default=2048)
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    for dtype in (torch.float32, torch.bfloat16):
        base = model(dtype, options.layers, options.width)
        folding, multiplying = [], []
        vector = torch.randn(4 * options.width, dtype=dtype)
        for _ in range(options.rounds):
            paths = attach(base, RedConfig())
            weights = [base.get_submodule(path).weight for path in paths]
            with torch.no_grad():
                started = time.perf_counter()
                for weight in weights:
                    torch.mv(weight, vector)
                multiplying.append(time.perf_counter() - started)
                started = time.perf_counter()
                fold(base)
                folding.append(time.perf_counter() - started)
            for path in paths:
                base.get_submodule(path).bias = None
        one, other = statistics.median(folding), statistics.median(multiplying)
        print(f"{dtype}: fold {one * 1e3:.1f} ms, multiply {other * 1e3:.1f} ms, ratio {one / other:.2f}")


if __name__ == "__main__":
    main()
