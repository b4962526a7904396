"""Tasks of lm-evaluation-harness on a model in memory."""

from __future__ import annotations

import importlib.util
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch

from red_cli.base_model.prepare import uses_bf16
from red_cli.distributed.shares import share_of
from red_cli.errors import UserError, did_you_mean, first_line, shown
from red_cli.inference.runtime import Runtime

_SEEDS = {"random": 0, "numpy": 1234, "torch": 1234, "shots": 1234}  # of the harness


@dataclass(frozen=True)
class TaskResult:
    """The harness's result of one task or group.

    Attributes:
        scores: metric -> value, shares as fractions; "exact_match,strict-match" if it has a filter.
        errors: metric -> standard error, if the harness computes it.
        shots: examples before each question; None for a group whose tasks differ.
        examples: number of questions answered.
        version: of the task's definition.
    """

    scores: dict[str, float]
    errors: dict[str, float]
    shots: int | None
    examples: int
    version: Any


@dataclass(frozen=True)
class HarnessResult:
    """The results of all tasks and groups by name, and the answers of each task."""

    tasks: dict[str, TaskResult]
    answers: dict[str, list[dict[str, Any]]]


def harness_version() -> str:
    """The version of lm-evaluation-harness.

    Raises:
        UserError: it is not installed.
    """
    if importlib.util.find_spec("lm_eval") is None:
        raise UserError(
            "missing-dependency", "lm-evaluation-harness is not installed", hint="pip install 'red-finetune[lm-eval]'"
        )
    import lm_eval

    return str(lm_eval.__version__)


def find_tasks(names: Sequence[str], folder: Path | None, others: Sequence[str] = ()) -> Any:
    """The harness's task manager, checked to have all `names`.

    Args:
        folder: definitions of further tasks.
        others: names of suites, for the hint.

    Raises:
        UserError: no such folder or task (the nearest names are shown), or the harness is not installed.
    """
    harness_version()
    from lm_eval.tasks import TaskManager

    if folder is not None and not folder.is_dir():
        raise UserError("folder-not-found", f"--tasks: no such folder: {folder}")
    if folder is not None:
        manager = TaskManager(include_path=str(folder), include_defaults=False)
        if all(name in manager.task_index for name in names):
            return manager
    manager = TaskManager(include_path=None if folder is None else str(folder))
    for name in names:
        if name not in manager.task_index:
            hint = did_you_mean(name, [*others, *manager.all_tasks], most=3)
            raise UserError(
                "unknown-name",
                f"no suite or task {shown(name)}",
                hint=f"{hint}Suites: {', '.join(others)}; all tasks: lm-eval ls tasks",
            )
    return manager


def harness_model(runtime: Runtime, batch_size: int) -> Any:
    """The harness's wrapper of a model, with progress, for batches of `batch_size` requests.

    Every rank evaluates the same tasks. The ranks share the requests, not the harness's questions: it would answer some
    of these twice, and compute the errors of scores in another order.

    Raises:
        UserError: the ranks share the base as well.
    """
    if runtime.sharded:
        raise UserError(
            "invalid-launch",
            "lm-evaluation-harness needs the full base on each device",
            hint="Start fewer processes with more memory each, or launch.strategy=ddp if it fits.",
        )
    from lm_eval.models.huggingface import HFLM

    processes = runtime.processes

    class ProgressHFLM(HFLM):  # type: ignore[misc, unused-ignore]
        done = total = 0

        def loglikelihood(self, requests: Any, disable_tqdm: bool = False) -> Any:
            return self._shared(requests, super().loglikelihood)

        def loglikelihood_rolling(self, requests: Any, disable_tqdm: bool = False) -> Any:
            return self._shared(requests, super().loglikelihood_rolling)

        def generate_until(self, requests: Any, disable_tqdm: bool = False) -> Any:
            return self._shared(requests, super().generate_until)

        def _shared(self, requests: Any, answer: Callable[..., Any]) -> list[Any]:
            # Those of a question stay together, since they share its prompt
            groups = [list(found) for _, found in groupby(range(len(requests)), key=lambda at: _question(requests[at]))]
            mine = [place for group in share_of(groups, processes) for place in group]
            self.done, self.total = 0, len(mine)
            answers = answer([requests[place] for place in mine], disable_tqdm=True) if mine else []
            parts = processes.gather(dict(zip(mine, answers, strict=True)))
            found = {place: each for part in parts for place, each in part.items()}
            return [found[place] for place in range(len(requests))]

        def _model_call(self, inps: Any, *others: Any, **named: Any) -> Any:
            self._report(len(inps))
            return super()._model_call(inps, *others, **named)

        def _model_generate(self, context: Any, *others: Any, **named: Any) -> Any:
            self._report(len(context))
            return super()._model_generate(context, *others, **named)

        def _report(self, rows: int) -> None:
            runtime.listener.evaluating(self.done, max(self.total, self.done))
            self.done += rows

    return ProgressHFLM(
        pretrained=runtime.model, tokenizer=runtime.tokenizer, batch_size=batch_size, max_length=runtime.context,
        mixed_precision_dtype=torch.bfloat16 if uses_bf16(runtime.recipe.train) else None,
    )  # fmt: skip


def _question(request: Any) -> tuple[Any, Any]:
    """The question that a request of the harness belongs to."""
    return getattr(request, "task_name", None), getattr(request, "doc_id", None)


def load_tasks(manager: Any, names: Sequence[str], shots: int | None) -> Any:
    """Load tasks with their data; few-shot examples are drawn by the harness's seeds.

    Args:
        manager: from `find_tasks`.
        shots: examples before each question; None: the default of each task.

    Raises:
        UserError: the data of a task are not available, it needs a package, or it runs code that the model writes.
    """
    random.seed(_SEEDS["random"])
    try:
        loaded = manager.load(list(names))
    except OSError as error:
        raise UserError(
            "unavailable", f"the data of {', '.join(names)} are not available: {first_line(error)}"
        ) from None
    except ImportError as error:
        raise UserError("missing-dependency", f"{', '.join(names)}: {first_line(error)}") from None
    for name, task in loaded["tasks"].items():
        if getattr(task, "UNSAFE_CODE", False):
            raise UserError(
                "benchmark-failed",
                f"{name} runs code that the model writes, which red does not",
                hint="Export the model, and run lm-eval --confirm_run_unsafe_code in a sandbox.",
            )
        own = task.get_config("num_fewshot")
        if own != 0:  # a zero-shot task stays one
            task.set_config(key="num_fewshot", value=own or 0 if shots is None else shots)
        task.set_fewshot_seed(seed=_SEEDS["shots"])
    return loaded


def run_tasks(lm: Any, loaded: Any, limit: int | None) -> HarnessResult:
    """Run `loaded` tasks on a model, with the harness's seeds.

    Args:
        lm: from `harness_model`.
        limit: most questions of each task.
    """
    from lm_eval.evaluator import evaluate

    random.seed(_SEEDS["random"])
    np.random.seed(_SEEDS["numpy"])
    torch.manual_seed(_SEEDS["torch"])
    found = evaluate(lm, loaded, limit=limit, log_samples=True)
    answers = {name: [_answer(sample) for sample in samples] for name, samples in found["samples"].items()}
    return HarnessResult({name: _result(name, found) for name in found["results"]}, answers)


def _result(name: str, found: dict[str, Any]) -> TaskResult:
    """The scores, standard errors, shots and examples of one task in the output of lm-evaluation-harness."""
    scores: dict[str, float] = {}
    errors: dict[str, float] = {}
    for key, value in {**found["results"][name], **found.get("groups", {}).get(name, {})}.items():
        metric, comma, rule = key.partition(",")
        if comma and isinstance(value, int | float):
            of_error = metric.endswith("_stderr")
            plain = metric.removesuffix("_stderr") + ("" if rule == "none" else f",{rule}")
            (errors if of_error else scores)[plain] = float(value)
    members = _members(name, found.get("group_subtasks", {}))
    shots = {found["n-shot"][member] for member in members if member in found["n-shot"]}
    examples = sum(found["n-samples"][member]["effective"] for member in members if member in found["n-samples"])
    return TaskResult(scores, errors, shots.pop() if len(shots) == 1 else None, examples, found["versions"].get(name))


def _members(name: str, groups: dict[str, list[str]]) -> list[str]:
    """The tasks of a group, nested groups included; a task is its only member."""
    if not groups.get(name):
        return [name]
    return [task for member in groups[name] for task in _members(member, groups)]


def _answer(sample: dict[str, Any]) -> dict[str, Any]:
    """A harness question's line in the file of answers."""
    metrics = {name: sample[name] for name in sample.get("metrics", ()) if name in sample}
    return {
        "index": sample["doc_id"],
        "target": sample["target"],
        "responses": [response[0] if len(response) == 1 else response for response in sample["resps"]],
        "metrics": metrics,
    }
