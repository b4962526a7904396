"""The sections of a run's report on its settings and its data, in words instead of recipe keys."""

from __future__ import annotations

from typing import Any

from red_cli.recipe.keys import values_of
from red_cli.recipe.metrics import UNTUNED
from red_cli.recipe.roles import DATA, Role
from red_cli.report.document import Section, Table
from red_cli.report.find_runs import FinishedRun
from red_cli.report.module_paths import readable_kind
from red_cli.report.result_sections import method_title

_TRAINED_BY = frozenset({Role.OPTIONS, Role.SEED, Role.TRAINING, Role.MICRO_BATCH, Role.BASE, Role.DECODING})
_OF_THE_BASE = frozenset({Role.SEED, Role.BASE, Role.DECODING})
# Recipe key -> its words, where they are not those of the key itself
_WORDS = {
    "model.name_or_path": "base",
    "model.dtype": "number type of the base",
    "model.revision": "revision of the base",
    "red.positions": "edited outputs",
    "red.components": "trained vectors",
    "red.layers": "edited layers",
    "red.target_modules": "edited modules",
    "train.num_train_epochs": "epochs",
    "train.max_steps": "most steps",
    "train.lr_scheduler_type": "learning-rate schedule",
    "train.head_learning_rate": "learning rate of the head",
    "train.warmup_ratio": "warm-up, share of the steps",
    "train.warmup_steps": "warm-up steps",
    "train.adam_beta1": "Adam beta 1",
    "train.adam_beta2": "Adam beta 2",
    "train.adam_epsilon": "Adam epsilon",
    "train.max_grad_norm": "largest norm of the gradient",
    "train.bf16": "bfloat16",
    "train.eval_steps": "steps between evaluations",
    "train.micro_batch_size": "rows in a forward pass",
    "train.batch_size": "batch size, rows",
    "data.path": "source",
    "data.name": "configuration",
    "data.max_length": "most tokens of a row",
    "data.max_train_rows": "most training rows",
    "data.max_prompt_length": "most tokens of a prompt",
    "data.too_long": "longer rows",
    "data.bad_rows": "unusable rows",
    "data.validation_share": "share of validation",
}
_UNSAID = ("trust_remote_code", "streaming")  # switches that say nothing while they are off


def settings_section(run: FinishedRun) -> Section:
    """The section of a run's report on its method, base and hyperparameters."""
    recipe = run.recipe
    searched = run.metrics.get("learning_rate_search") is not None
    rows = [["task", str(run.metrics["task"])], ["method", method_title(run)]]
    roles = _OF_THE_BASE if run.metrics.get("method") == UNTUNED else _TRAINED_BY
    for key, value in values_of(recipe, roles).items():
        section = key.partition(".")[0]
        if section in ("lora", "ia3", "red") and section != recipe.method:
            continue
        positions = key.endswith(".positions") and isinstance(value, list)
        text = _value_text([*map(readable_kind, value)] if positions else value)
        found = ", found by a search" if key == "train.learning_rate" and searched else ""
        rows += [] if text is None or _is_unsaid(key, value) else [[setting_name(key), text + found]]
    rows.append(["chosen by", f"{run.metric_title()} on {run.selection_split}"])
    return Section("Settings", table=Table(["", ""], rows, left=2))


def data_section(run: FinishedRun) -> Section:
    """The section of a run's report on its data: files, rows and classes."""
    recorded = run.metrics.get("inputs") or {}
    rows = [["task data", run.recipe.task.heading.title]] if run.recipe.task.heading is not None else []
    for key, value in values_of(run.recipe, DATA).items():
        text = _value_text(value)
        rows += [] if text is None or _is_unsaid(key, value) else [[setting_name(key), text]]
    counts = {split: digest["rows"] for split, digest in recorded.get("splits", {}).items()}
    counts |= {split: scores["examples"] for split, scores in run.metrics["splits"].items()}
    rows += [[f"rows of {split}", f"{count:,}"] for split, count in counts.items()]
    if labels := recorded.get("label_names"):
        rows.append(["classes", f"{len(labels):,}: {', '.join(map(str, labels))}"])
    scoring = run.metrics["scoring"]
    used = dict.fromkeys(scoring[part]["rows"] for part in ("selection", "scored"))
    rows.append(["scored rows", "; ".join(used)])
    return Section("Data", table=Table(["", ""], rows, left=2))


def setting_name(key: str) -> str:
    """A key of the recipe in words, as the sections of a run's settings and data show it."""
    words = key.rpartition(".")[2].replace("_", " ")
    return _WORDS.get(key) or (f"column of {words}" if key.startswith("data.columns.") else words)


def _is_unsaid(key: str, value: Any) -> bool:
    """Whether a setting is left out of a run's report, because it is a switch that is off."""
    return value is False and key.rpartition(".")[2] in _UNSAID


def _value_text(value: Any) -> str | None:
    """A recipe's value as text in a run's report; None if it is not set."""
    if value is None or value in ([], {}):
        return None
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)
