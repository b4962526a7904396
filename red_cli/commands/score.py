"""The command score: metrics of generated text."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from red_cli import console
from red_cli import plan_and_result_tables as tables
from red_cli.commands.options import Json
from red_cli.progress import Terminal
from red_cli.recipe.metrics import E2E_METRICS, TEXT_METRICS


def score(
    predictions: Annotated[Path, typer.Option("--predictions", "-p", help="A file with one prediction per line.")],
    references: Annotated[
        Path,
        typer.Option("--references", "-r", help="A file with one reference per line, a blank line between inputs."),
    ],
    metrics: Annotated[str, typer.Option(help=f"Metrics, separated by commas: {' '.join(TEXT_METRICS)}.")] = ",".join(
        E2E_METRICS
    ),
    json: Json = False,
) -> None:
    """The command `red score`: score generated texts against references, as the official E2E NLG scripts do."""
    with Terminal(json_output=json) as terminal:
        terminal.status("starting")
        from red_cli.tasks.text_metrics.score import metric_names, not_computed, score_texts
        from red_cli.tasks.text_metrics.text_files import read_texts

        names = metric_names(name.strip() for name in metrics.split(","))
        texts, truths = read_texts(predictions, references)
        scores = score_texts(texts, truths, names, terminal.status)
    result = {
        "predictions": str(predictions),
        "references": str(references),
        "inputs": len(texts),
        "reference_texts": sum(len(row) for row in truths),
        "scores": scores,
        "not_computed": not_computed(names),
    }
    if json:
        console.print_json(result)
    else:
        console.print_lines(tables.score_rows(result))
