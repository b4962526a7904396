"""Export a run: fold it, write it, load it again with plain transformers, and compare."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel

from red_cli.edit.model import edits
from red_cli.errors import RunFailed, UserError
from red_cli.export.card import merged_card
from red_cli.export.merge import merge
from red_cli.files import replacing_folder, write_text
from red_cli.recipe.schema import Recipe, resolved
from red_cli.recipe.yaml_file import dump
from red_cli.run.events import Listener
from red_cli.run.folder import RECIPE_FILE, RunFolder
from red_cli.run.target import Opened, Target, load_model, open_task
from red_cli.tasks.base import Batch

TOLERANCE = 1e-4  # largest difference of float32 logits that counts as the same model
_CHECKED_EXAMPLES = 64
_CHECKED_AT_ONCE = 16


def export_merged(target: Target, output: Path, verify: bool, listener: Listener) -> dict[str, Any]:
    """Write the folded model of `target`, its tokenizer, label names, recipe and card to `output`.

    Returns:
        "output", "examples" compared, "largest_difference" of logits and the share of equal answers (None where not
        verified).

    Raises:
        UserError: `target` has no adapter, `output` is not empty, or the edits cannot be folded.
        RunFailed: the written model differs from the adapter by more than `TOLERANCE`; nothing is left in `output`.
    """
    if target.adapter is None:
        raise UserError(f"{target.folder} is an exported model already")
    opened = open_task(target)
    with replacing_folder(output) as folder:
        listener.working("folding")
        model = load_model(opened)
        batches: list[Batch] = _examples(opened) if verify else []
        expected = _logits(model, batches)
        edited = sum(1 for _ in edits(model))
        merge(model).save_pretrained(folder)
        opened.tokenizer.save_pretrained(folder)
        del model
        gc.collect()
        result: dict[str, Any] = {"output": str(output), "edited_modules": edited, "examples": 0,
                                  "largest_difference": None, "equal_answers": None}  # fmt: skip
        if verify:
            listener.working("checking the result")
            dtype = getattr(torch, target.recipe.model.dtype, "auto")
            loaded = opened.task.kind.auto_class.from_pretrained(folder, dtype=dtype)
            result |= _compare(expected, _logits(loaded.eval(), batches), target.recipe)
        _write_papers(folder, output, opened, result["largest_difference"])
    return result


def _examples(opened: Opened) -> list[Batch]:
    task = opened.task
    split = task.validation_splits[0]
    rows = task.load(opened.target.recipe.train.seed, (split,))[split]
    rows = rows.take(list(range(min(_CHECKED_EXAMPLES, rows.table.num_rows))))
    encoded = task.encode(rows, opened.tokenizer, opened.max_length)
    return [
        task.collate(encoded, np.arange(start, min(start + _CHECKED_AT_ONCE, len(encoded))))
        for start in range(0, len(encoded), _CHECKED_AT_ONCE)
    ]


@torch.inference_mode()
def _logits(model: PreTrainedModel, batches: list[Batch]) -> torch.Tensor:
    if not batches:
        return torch.empty(0)
    return torch.cat([model(**batch.inputs).logits.float() for batch in batches])


def _compare(expected: torch.Tensor, found: torch.Tensor, recipe: Recipe) -> dict[str, Any]:
    difference = (expected - found).abs().max().item()
    # In a half-precision base the folded weights are rounded once more; only float32 is held to the tolerance.
    if recipe.model.dtype == "float32" and not difference <= TOLERANCE:
        raise RunFailed(
            f"the exported model differs from the adapter: logits by up to {difference:.2e} (at most {TOLERANCE:.0e})"
        )
    equal = (expected.argmax(-1) == found.argmax(-1)).float().mean().item()
    return {"examples": len(expected), "largest_difference": difference, "equal_answers": equal}


def _write_papers(folder: Path, output: Path, opened: Opened, difference: float | None) -> None:
    """The recipe, so that the folder can be evaluated, and the card."""
    target = opened.target
    recipe = resolved(target.recipe)
    write_text(folder / RECIPE_FILE, dump(recipe))
    runs = [RunFolder(folder) for folder in (target.folder, target.folder.resolve().parent)]
    metrics = next((run.read_metrics() for run in runs if run.finished), None)
    write_text(
        folder / "README.md",
        merged_card(output.resolve().name, recipe, metrics, difference, opened.task.kind.auto_class.__name__),
    )
