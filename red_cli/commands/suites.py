"""`red eval --suite`: benchmarks as their owners define them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from red_cli import console, tables
from red_cli.commands.options import open_target


def evaluate_suite(
    target: Path, overrides: list[str], recipe: str | None, output: Path | None, asked: dict[str, Any], json: bool
) -> None:
    """Have a model answer the benchmark that is `asked` (the fields of a SuiteRequest), and show what came of it."""
    os.environ.setdefault("TQDM_DISABLE", "1")  # the harness's bars; read when tqdm is imported
    with console.Terminal(json_output=json) as terminal:
        terminal.status("starting")
        opened = open_target(target, recipe, overrides)
        from red_cli.runs.opened import evaluation_folder
        from red_cli.runs.preflight import preflight_evaluation

        folder = output or evaluation_folder(target, overrides)
        preflight_evaluation(opened, None, folder)
        console.silence_libraries()
        from red_cli.benchmarks.evaluate import evaluate_suite as run_suite
        from red_cli.benchmarks.request import SuiteRequest

        result = run_suite(opened, SuiteRequest(overrides=overrides, **asked), folder, terminal)
    if json:
        console.print_json(result)
        return
    if columns := tables.suite_columns(result):
        console.print_columns(columns)
        console.print_text()
    console.print_lines(tables.suite_rows(result))
    if "next" in result:
        console.next_commands(*result["next"])
