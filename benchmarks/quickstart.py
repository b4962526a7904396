"""Measure what the quickstart's task asks for: RED beside what it should be compared with, on the same test split.

Every learning rate (and every probe's regularisation) is chosen on the validation split with one seed; the test split
is read only with the rate chosen. Each row of the table is the mean and standard deviation over the seeds.
"""

from __future__ import annotations

import csv
import json
import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from measuring import parser_for
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer, PreTrainedModel
from transformers.utils import logging

from red_cli import RedConfig, attach

LABELS = ["negative", "positive"]
SPLITS = ["train", "validation", "test"]


@dataclass(frozen=True)
class Split:
    """One split, tokenised: `ids` is padded to the split's longest row."""

    ids: torch.Tensor
    mask: torch.Tensor
    labels: torch.Tensor


@dataclass(frozen=True)
class Method:
    """One way to train: which base, which parameters, and the rates to try."""

    name: str
    prepare: Callable[[PreTrainedModel], None]
    rates: list[float]
    pretrained: bool = True


def freeze_base(model: PreTrainedModel) -> None:
    """Train the classification head only."""
    for parameter in model.base_model.parameters():
        parameter.requires_grad_(False)


def add_edits(model: PreTrainedModel) -> None:
    """RED: edit the FFN output of each layer, and train the head beside it."""
    attach(model, RedConfig())


def train_all(model: PreTrainedModel) -> None:
    """Full fine-tuning: everything learns, as it does by default."""


def build(base: Path, pretrained: bool) -> PreTrainedModel:
    if pretrained:
        return AutoModelForSequenceClassification.from_pretrained(base, num_labels=len(LABELS), dtype=torch.float32)
    config = AutoConfig.from_pretrained(base, num_labels=len(LABELS), dtype=torch.float32)
    return AutoModelForSequenceClassification.from_config(config)


def read_split(folder: Path, name: str, tokenizer: Callable, most: int | None) -> Split:
    with (folder / f"{name}.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))[:most]
    texts = [row["review"] for row in rows]
    encoded = tokenizer(texts, padding=True, truncation=True, max_length=64, return_tensors="pt")
    labels = torch.tensor([LABELS.index(row["label"]) for row in rows])
    return Split(encoded["input_ids"], encoded["attention_mask"], labels)


@torch.no_grad()
def accuracy(model: PreTrainedModel, split: Split) -> float:
    model.eval()
    guesses = [
        model(input_ids=ids, attention_mask=mask).logits.argmax(-1)
        for ids, mask in zip(split.ids.split(100), split.mask.split(100), strict=True)
    ]
    return (torch.cat(guesses) == split.labels).float().mean().item()


def train(
    method: Method, base: Path, split: Split, rate: float, seed: int, epochs: int, batch_size: int
) -> tuple[PreTrainedModel, float]:
    """One training run: AdamW, warm-up over 6 % of the steps, then linear decay. Returns the model and the seconds."""
    torch.manual_seed(seed)
    model = build(base, method.pretrained)
    method.prepare(model)
    started = time.perf_counter()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=rate, weight_decay=0.0)
    total = epochs * math.ceil(len(split.ids) / batch_size)
    warm = max(1, round(0.06 * total))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / warm, (total - step) / max(1, total - warm))
    )
    model.train()
    for _ in range(epochs):
        for chosen in torch.randperm(len(split.ids)).split(batch_size):
            width = int(split.mask[chosen].sum(1).max())  # no wider than this batch needs
            ids, mask = split.ids[chosen, :width], split.mask[chosen, :width]
            logits = model(input_ids=ids, attention_mask=mask).logits
            loss = nn.functional.cross_entropy(logits, split.labels[chosen])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(trained, 1.0)
            optimizer.step()
            schedule.step()
    return model, time.perf_counter() - started


@torch.no_grad()
def features(base: Path, splits: dict[str, Split], pooled: bool) -> dict[str, torch.Tensor]:
    """The frozen base's last layer for each row: its first token, or the mean over the tokens."""
    model = build(base, pretrained=True).base_model.eval()
    found = {}
    for name, split in splits.items():
        hidden = model(input_ids=split.ids, attention_mask=split.mask).last_hidden_state
        weight = split.mask.unsqueeze(-1).float()
        found[name] = (hidden * weight).sum(1) / weight.sum(1) if pooled else hidden[:, 0]
    return found


def probe(base: Path, splits: dict[str, Split], pooled: bool) -> tuple[float, str]:
    """Logistic regression on the frozen base's vectors; its test accuracy (it has no seed)."""
    found = features(base, splits, pooled)
    scored = []
    for strength in (0.001, 0.01, 0.1, 1.0, 10.0):
        classifier = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=2000))
        classifier.fit(found["train"], splits["train"].labels)
        validation = classifier.score(found["validation"], splits["validation"].labels)
        scored.append((validation, -strength, classifier.score(found["test"], splits["test"].labels)))
    _, strength, test = max(scored)
    return test, f"C {-strength:g}"


def measure(
    method: Method, base: Path, splits: dict[str, Split], seeds: list[int], epochs: int, batch_size: int
) -> tuple[list[float], str]:
    """Choose the rate on the validation split with the first seed, then read the test split with every seed."""

    def run(rate: float, seed: int) -> tuple[PreTrainedModel, float]:
        return train(method, base, splits["train"], rate, seed, epochs, batch_size)

    best = max(method.rates, key=lambda rate: accuracy(run(rate, seeds[0])[0], splits["validation"]))
    scores, seconds = [], []
    for seed in seeds:
        model, spent = run(best, seed)
        scores.append(accuracy(model, splits["test"]))
        seconds.append(spent)
    return scores, f"lr {best:g}, {statistics.mean(seconds):.0f} s"


def main() -> None:
    parser = parser_for(__doc__)
    here = Path(__file__).resolve().parent.parent / "recipes" / "quickstart"
    parser.add_argument("--folder", type=Path, default=here, help="holds base/ and the three CSV files")
    parser.add_argument("--output", type=Path, help="write the results there as JSON too")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--rows", type=int, help="the first of each split; default: all")
    arguments = parser.parse_args()
    logging.set_verbosity_error()
    logging.disable_progress_bar()

    base = arguments.folder / "base"
    tokenizer = AutoTokenizer.from_pretrained(base)
    splits = {name: read_split(arguments.folder, name, tokenizer, arguments.rows) for name in SPLITS}
    test = splits["test"].labels.float().mean().item()
    majority = test if splits["train"].labels.float().mean().item() > 0.5 else 1 - test
    results: dict[str, tuple[list[float], str]] = {"majority class": ([majority], "")}
    for pooled, name in ((False, "probe, first token"), (True, "probe, mean of tokens")):
        score, chosen = probe(base, splits, pooled)
        results[name] = ([score], chosen)
    methods = [
        Method("head only", freeze_base, [1e-3, 3e-3, 1e-2, 3e-2]),
        Method("RED, random base", add_edits, [3e-3, 1e-2, 2e-2, 3e-2], pretrained=False),
        Method("RED", add_edits, [3e-3, 1e-2, 2e-2, 3e-2]),
        Method("full fine-tuning", train_all, [1e-4, 3e-4, 1e-3]),
    ]
    for method in methods:
        results[method.name] = measure(method, base, splits, arguments.seeds, arguments.epochs, arguments.batch_size)
        print(f"{method.name}: {[round(score, 4) for score in results[method.name][0]]}", flush=True)

    print(f"\n{'':24}test accuracy, % (mean +- std over {len(arguments.seeds)} seeds)")
    for name, (scores, chosen) in results.items():
        spread = f" +- {100 * statistics.stdev(scores):.1f}" if len(scores) > 1 else ""
        print(f"{name:24}{100 * statistics.mean(scores):.1f}{spread:10}{chosen}")
    if arguments.output:
        table = {name: {"test_accuracy": scores, "chosen": chosen} for name, (scores, chosen) in results.items()}
        arguments.output.write_text(json.dumps(table, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
