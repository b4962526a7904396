"""Export a run: fold it, write it, load it again with plain transformers, and compare."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForSequenceClassification, PreTrainedModel

from red_cli.edit.model import edits
from red_cli.errors import RunFailed, UserError
from red_cli.export.card import merged_card
from red_cli.export.merge import merge
from red_cli.files import replacing_folder, write_text
from red_cli.methods.table import has_peft_files, read_trained_files
from red_cli.recipe.schema import Recipe, resolved
from red_cli.recipe.yaml_file import dump
from red_cli.run.base_model import load_tokenizer, resolve_max_length
from red_cli.run.events import Listener
from red_cli.run.folder import RECIPE_FILE, RunFolder
from red_cli.run.target import Target, load_model
from red_cli.tasks.base import Batch, Task
from red_cli.tasks.build import build_task

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
    _require_red(target.adapter)
    task = build_task(target.recipe, target.label_names)
    with replacing_folder(output) as folder:
        listener.working("folding")
        model, config = load_model(target)
        tokenizer = load_tokenizer(target.recipe.model)
        batches: list[Batch] = []
        if verify:
            limit = resolve_max_length(target.recipe.data.max_length, config, tokenizer)
            batches = _examples(task, target.recipe, tokenizer, limit)
        expected = _logits(model, batches)
        edited = sum(1 for _ in edits(model))
        merge(model).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        del model
        gc.collect()
        result: dict[str, Any] = {"output": str(output), "edited_modules": edited, "examples": 0,
                                  "largest_difference": None, "equal_answers": None}  # fmt: skip
        if verify:
            listener.working("checking the result")
            dtype = getattr(torch, target.recipe.model.dtype, "auto")
            loaded = AutoModelForSequenceClassification.from_pretrained(folder, dtype=dtype)
            result |= _compare(expected, _logits(loaded.eval(), batches), target.recipe)
        _write_papers(folder, output, target, result["largest_difference"])
    return result


def _require_red(folder: Path) -> None:
    method = read_trained_files(folder).method
    if method != "red":
        peft = "PeftModel.from_pretrained(model, folder).merge_and_unload() of PEFT merges it."
        raise UserError(
            f"{folder} was trained by method {method}; red export folds RED's edits alone",
            hint=peft if has_peft_files(folder) else None,
        )


def _examples(task: Task, recipe: Recipe, tokenizer: Any, max_length: int) -> list[Batch]:
    split = task.validation_splits[0]
    rows = task.load(recipe.train.seed, (split,))[split]
    rows = rows.take(list(range(min(_CHECKED_EXAMPLES, rows.table.num_rows))))
    encoded = task.encode(rows, tokenizer, max_length)
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


def _write_papers(folder: Path, output: Path, target: Target, difference: float | None) -> None:
    """The recipe, so that the folder can be evaluated, and the card."""
    recipe = resolved(target.recipe)
    write_text(folder / RECIPE_FILE, dump(recipe))
    runs = [RunFolder(folder) for folder in (target.folder, target.folder.resolve().parent)]
    metrics = next((run.read_metrics() for run in runs if run.finished), None)
    write_text(folder / "README.md", merged_card(output.resolve().name, recipe, metrics, difference))
