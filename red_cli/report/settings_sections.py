"""The sections of a run's report on its settings and its data, in words instead of recipe keys."""

from __future__ import annotations

from typing import Any

from red_cli.recipe.keys_by_role import values_of
from red_cli.recipe.metrics import UNTUNED
from red_cli.recipe.roles import DATA, Role
from red_cli.report.document import Section, Table
from red_cli.report.find_runs import FinishedRun
from red_cli.report.module_paths import readable_kind
from red_cli.report.names import method_title, setting_name

_TRAINED_BY = frozenset({Role.OPTIONS, Role.SEED, Role.TRAINING, Role.MICRO_BATCH, Role.BASE, Role.DECODING})
_OF_THE_BASE = frozenset({Role.SEED, Role.BASE, Role.DECODING})
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
