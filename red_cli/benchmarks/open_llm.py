"""The first Open LLM Leaderboard: its six tasks, shots and metrics, and the paper's variant of ARC."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from red_cli.benchmarks.harness import TaskResult


@dataclass(frozen=True)
class Column:
    """A column of the leaderboard.

    Attributes:
        title: its heading.
        task: the harness's task.
        metric: the task's metric.
        shots: examples before each question.
    """

    title: str
    task: str
    metric: str
    shots: int


# As the leaderboard ran them; the paper's Table 11 has 10 shots for MMLU, its script 5.
COLUMNS = (
    Column("ARC-Challenge", "arc_challenge", "acc_norm", 25),
    Column("HellaSwag", "hellaswag", "acc_norm", 10),
    Column("MMLU", "mmlu", "acc", 5),
    Column("TruthfulQA", "truthfulqa_mc2", "acc", 0),
    Column("Winogrande", "winogrande", "acc", 5),
    Column("GSM8K", "gsm8k", "exact_match,strict-match", 5),
)
# The paper's "ARC" is the harness's ai2_arc: ARC-Easy and ARC-Challenge together, weighted by their sizes.
_EASY = Column("ARC-Easy", "arc_easy", "acc_norm", 25)
_AI2_ARC = "ai2_arc"
ASKED = (*COLUMNS, _EASY)


def leaderboard(results: dict[str, TaskResult]) -> dict[str, Any]:
    """The leaderboard's columns and average, ai2_arc, and the average with ai2_arc instead of ARC-Challenge.

    Returns:
        "columns": title -> value, task, metric, shots, examples; "average"; "average_with_ai2_arc".
    """
    columns = {column.title: _cell(column, results[column.task]) for column in ASKED}
    easy, challenge = columns.pop(_EASY.title), columns[COLUMNS[0].title]
    examples = easy["examples"] + challenge["examples"]
    together = (easy["value"] * easy["examples"] + challenge["value"] * challenge["examples"]) / examples
    own = sum(column["value"] for column in columns.values()) / len(columns)
    papers = own + (together - challenge["value"]) / len(columns)
    columns[_AI2_ARC] = {
        "value": together, "task": "arc_easy, arc_challenge", "metric": _EASY.metric, "shots": _EASY.shots,
        "examples": examples,
    }  # fmt: skip
    return {"columns": columns, "average": own, "average_with_ai2_arc": papers}


def _cell(column: Column, result: TaskResult) -> dict[str, Any]:
    """One column of the Open LLM Leaderboard: the value of its metric, with task, shots and examples."""
    return {
        "value": result.scores[column.metric],
        "task": column.task,
        "metric": column.metric,
        "shots": column.shots,
        "examples": result.examples,
    }
