"""Run a benchmark by name; record its figures or its file of answers in metrics.json."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from dataclasses import asdict
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import Any

from red_cli.benchmarks import alpaca_eval, mt_bench
from red_cli.benchmarks.harness import TaskResult, find_tasks, harness_model, harness_version, load_tasks, run_tasks
from red_cli.benchmarks.open_llm import ASKED, leaderboard
from red_cli.benchmarks.question_suites import load_live, open_language_model
from red_cli.benchmarks.request import SuiteRequest
from red_cli.distributed.process_group import Processes
from red_cli.errors import Interrupted, UserError
from red_cli.escape import file_name
from red_cli.files import write_text
from red_cli.inference.runtime import Runtime, join_for_inference
from red_cli.runs.events import Listener
from red_cli.runs.folder import RunFolder
from red_cli.runs.open_trained import Opened
from red_cli.runs.preflight import preflight_evaluation

OPEN_LLM = "open-llm"
SUITES = (OPEN_LLM, alpaca_eval.NAME, mt_bench.NAME)
_BATCH_SIZE = 8  # requests, unless the recipe sets eval.batch_size


def evaluate_suite(target: Opened, request: SuiteRequest, output: Path, listener: Listener) -> dict[str, Any]:
    """Run a benchmark on `target`; record the result in <output>/metrics.json under suites.<name>.

    Every rank answers a share of the questions; rank 0 writes, and the others return an empty result.

    Returns:
        "suite", "folder", and for a benchmark with a judge "answers" (the file it reads), "questions", "unfinished",
        "template" and "next" (the commands that judge); for others "tasks", and for open-llm "columns", "average" and
        "average_with_ai2_arc".

    Raises:
        UserError: there is no such suite or task, an option has no effect, a package is missing, data are not
            available, or a file of answers exists.
    """
    folder = RunFolder(output)
    preflight_evaluation(target, None, output)
    processes = join_for_inference(target.recipe, listener)
    listener.status("looking for the questions")
    answering = {alpaca_eval.NAME: alpaca_eval.answer_alpaca_eval, mt_bench.NAME: mt_bench.answer_mt_bench}
    if request.suite in answering:
        try:
            result = answering[request.suite](target, request, output, listener, processes)
        except Interrupted as stop:
            elsewhere = "" if output == target.folder else f" and --output {shlex.quote(str(output))}"
            raise Interrupted("interrupted", stop.message, hint=f"Resume with the same command{elsewhere}.") from None
    elif request.suite == OPEN_LLM:
        result = _open_llm(target, request, output, listener, processes)
    else:
        result = _tasks(target, request, output, listener, processes)
    if not processes.main:
        return {}
    suites = {**folder.read_metrics().get("suites", {}), request.suite: _without_next(result)}
    folder.write_metrics({"suites": suites})
    return {"suite": request.suite, "folder": str(folder.path), **result}


def _open_llm(
    target: Opened, request: SuiteRequest, output: Path, listener: Listener, processes: Processes
) -> dict[str, Any]:
    """Run the Open LLM Leaderboard benchmark, once for each number of shots; return its figures."""
    request.only("limit", "tasks")
    manager = find_tasks([column.task for column in ASKED], request.tasks)
    base = open_language_model(target)
    by_shots = groupby(sorted(ASKED, key=attrgetter("shots")), key=attrgetter("shots"))
    with processes.main_first():
        parts = [load_tasks(manager, [column.task for column in columns], shots) for shots, columns in by_shots]
    found = _run(load_live(target, base, listener, processes), parts, request.limit, output)
    return {**_about(request), **leaderboard(found), "tasks": _plain(found)}


def _tasks(
    target: Opened, request: SuiteRequest, output: Path, listener: Listener, processes: Processes
) -> dict[str, Any]:
    """Evaluate the named tasks of a benchmark; return their figures."""
    request.only("shots", "tasks", "limit")
    names = [name.strip() for name in request.suite.split(",") if name.strip()]
    if not names:
        raise UserError(
            "invalid-option", "--suite is empty", hint=f"Suites: {', '.join(SUITES)}; or tasks of lm-evaluation-harness"
        )
    manager = find_tasks(names, request.tasks, SUITES)
    base = open_language_model(target)
    with processes.main_first():
        parts = [load_tasks(manager, names, request.shots)]
    found = _run(load_live(target, base, listener, processes), parts, request.limit, output)
    return {**_about(request), "tasks": _plain(found)}


def _run(runtime: Runtime, parts: Sequence[Any], limit: int | None, output: Path) -> dict[str, TaskResult]:
    """Evaluate all parts of a benchmark; write the answers to <output>/suites/<task>.jsonl."""
    lm = harness_model(runtime, runtime.recipe.eval.batch_size or _BATCH_SIZE)
    results = {}
    for loaded in parts:
        found = run_tasks(lm, loaded, limit)
        results.update(found.tasks)
        if not runtime.processes.main:
            continue
        for task, lines in found.answers.items():
            text = "".join(json.dumps(line, ensure_ascii=False, default=str) + "\n" for line in lines)
            write_text(output / "suites" / file_name(f"{task}.jsonl"), text)
    return results


def _about(request: SuiteRequest) -> dict[str, Any]:
    """The tool and the limit of examples that a benchmark's record in metrics.json starts with."""
    return {"tool": f"lm-evaluation-harness {harness_version()}", "limit": request.limit}


def _plain(found: dict[str, TaskResult]) -> dict[str, Any]:
    """The results of harness tasks as plain data for metrics.json."""
    return {name: asdict(result) for name, result in found.items()}


def _without_next(result: dict[str, Any]) -> dict[str, Any]:
    """A benchmark's result for metrics.json, without the commands to run next."""
    return {name: value for name, value in result.items() if name != "next"}
