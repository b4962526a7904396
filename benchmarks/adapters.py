"""Time of a batch in which each row names its own adapter, against one adapter for all rows.

    python benchmarks/adapters.py [--rows 32] [--adapters 32] [--length 64] [--repeats 40]

A random BERT of 6 layers and width 384; forward passes without gradients, the two in random order; the ratio is the
median over pairs.
"""

from __future__ import annotations

import statistics
from functools import partial

import torch
from measuring import median_ratio, parser_for, seconds_in_turn
from transformers import BertConfig, BertForSequenceClassification

from red_cli import RedConfig, activate, attach


def main() -> None:
    parser = parser_for(__doc__)
    parser.add_argument("--rows", type=int, default=32)
    parser.add_argument("--adapters", type=int, default=32)
    parser.add_argument("--length", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=40)
    arguments = parser.parse_args()
    torch.manual_seed(0)
    config = BertConfig(hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536)
    model = BertForSequenceClassification(config).eval()
    names = [f"adapter{number}" for number in range(arguments.adapters)]
    for name in names:
        attach(model, RedConfig(), name, train_head=False)
    ids = torch.randint(0, config.vocab_size, (arguments.rows, arguments.length))
    rows = [names[row % len(names)] for row in range(arguments.rows)]
    activate(model, names[0])
    ways = {"one": model, "mixed": partial(model, adapter_names=rows)}
    with torch.inference_mode():
        seconds = seconds_in_turn(ways, [ids] * (arguments.repeats + 3), warmup=3)
    ratio = median_ratio(seconds["mixed"], seconds["one"])
    shown = {way: f"{statistics.median(times) * 1000:.1f} ms" for way, times in seconds.items()}
    print(f"one adapter {shown['one']}, {arguments.adapters} adapters in one batch {shown['mixed']}: ratio {ratio:.3f}")


if __name__ == "__main__":
    main()
