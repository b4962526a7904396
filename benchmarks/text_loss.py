"""A training step of the generation task against steps that compute all logits, over the rows of E2E NLG.

    python benchmarks/text_loss.py --data FOLDER [--steps 20] [--threads 2] [--vocabulary 50257]

FOLDER holds train.parquet and test.parquet with the columns meaning_representation and human_reference. The model is a
random GPT-2 of 6 layers and width 384 with RED, 10 rows a step, dropout off:

  red             the toolkit's step: micro-batches of similar length, logits at the completions' tokens alone
  all logits      the same rows in one batch, the loss that transformers computes
  padded to 164   the same with every row padded to 164 tokens, as the published code does

Every batch is taken by all three, in random order. Times are medians; memory is what a step allocates at its peak, over
the longest rows and over the last batch.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from measuring import (
    END,
    SMALL_GPT2,
    adamw,
    column,
    median_ratio,
    parser_for,
    peak_memory,
    seconds_in_turn,
    train_tokenizer,
)
from torch.nn import functional
from transformers import GPT2Config, GPT2LMHeadModel

from red_cli import RedConfig, attach
from red_cli.console import silence_libraries
from red_cli.plan.batches import bucket_by_length
from red_cli.plan.prepare import prepare
from red_cli.recipe.load import load_recipe
from red_cli.train.session import CUT_COST

_ROWS, _LENGTH, _WARMUP = 10, 164, 2
_NO_DROPOUT = {"resid_pdrop": 0.0, "attn_pdrop": 0.0, "embd_pdrop": 0.0}


def main() -> None:
    parser = parser_for(__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--vocabulary", type=int, default=50257)
    arguments = parser.parse_args()
    silence_libraries()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    sizes = {**SMALL_GPT2, "vocab_size": arguments.vocabulary, "n_positions": 512}
    config = GPT2Config(bos_token_id=END, eos_token_id=END, **sizes, **_NO_DROPOUT)
    model = GPT2LMHeadModel(config).train()
    with tempfile.TemporaryDirectory() as folder:
        config.save_pretrained(folder)
        train_tokenizer(column(arguments.data, "train", "human_reference")).save_pretrained(folder)
        columns = "{prompt: meaning_representation, completion: human_reference}"
        overrides = [f"model.name_or_path={folder}", f"data.path={arguments.data}", f"data.columns={columns}"]
        prepared = prepare(load_recipe("generation", overrides=overrides).recipe)
    encoder, encoded = prepared.encoder, prepared.encoded["train"]
    attach(model, RedConfig())
    optimizer = adamw(model, 0.0)  # the three take the same batches from the same state

    def finish() -> None:
        optimizer.step()
        optimizer.zero_grad()

    def red(rows: np.ndarray) -> float:
        cut = bucket_by_length(rows, encoded.lengths, _ROWS, CUT_COST["cpu"])
        batches = [encoder.collate(encoded, some) for some in cut]
        weight, total = sum(batch.weight for batch in batches), 0.0
        for batch in batches:
            loss = encoder.loss(model, batch) / weight
            loss.backward()
            total += loss.item()
        finish()
        return total

    def all_logits(rows: np.ndarray, length: int = 0) -> float:
        batch = encoder.collate(encoded, rows)
        missing = max(0, length - batch.labels.shape[1])
        inputs = {name: functional.pad(tensor, (0, missing)) for name, tensor in batch.inputs.items()}
        labels = functional.pad(batch.labels.roll(1, 1), (0, missing), value=-100)  # shifted inside the model
        loss = model(**inputs, labels=labels).loss
        loss.backward()
        finish()
        return loss.item()

    steps = {"red": red, "all logits": all_logits, "padded to 164": lambda rows: all_logits(rows, _LENGTH)}
    generator = np.random.default_rng(0)
    chosen = [generator.choice(len(encoded), _ROWS, replace=False) for _ in range(_WARMUP + arguments.steps)]
    losses: dict[str, list[float]] = {name: [] for name in steps}

    def recorded(name: str) -> Callable[[np.ndarray], None]:
        return lambda rows: losses[name].append(steps[name](rows))

    seconds = seconds_in_turn({name: recorded(name) for name in steps}, chosen, _WARMUP)
    apart = max(max(found) - min(found) for found in zip(*losses.values(), strict=True))
    longest = np.argsort(-encoded.lengths, kind="stable")[:_ROWS]
    print(f"{'':15}{'step (ms)':>10}{'of red':>8}{'peak MiB, longest rows':>24}{'peak MiB, last rows':>21}")
    for name, times in seconds.items():
        ratio = median_ratio(times, seconds["red"])
        peaks = [peak_memory(steps[name], rows) / 2**20 for rows in (longest, chosen[-1])]
        print(f"{name:15}{statistics.median(times) * 1000:10.0f}{ratio:8.2f}{peaks[0]:24.0f}{peaks[1]:21.0f}")
    print(f"losses of the same batch differ by at most {apart:.1e}")


if __name__ == "__main__":
    main()
