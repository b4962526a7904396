"""Compare methods on the same recipe, data, head, loop and seeds. Each run has its own process."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from red_cli.compare.comparison_table import summarise, write_comparison
from red_cli.errors import Interrupted, UserError, one_line, shown
from red_cli.escape import file_name
from red_cli.files import expand_user
from red_cli.recipe.load import LoadedRecipe, load_recipe
from red_cli.recipe.methods import compared_methods
from red_cli.recipe.metrics import format_score, headline_metrics
from red_cli.recipe.overrides import named_with_role
from red_cli.recipe.roles import SHARED, Role
from red_cli.runs.consent import consent_of
from red_cli.runs.events import Listener
from red_cli.runs.folder import RunFolder
from red_cli.runs.preflight import preflight
from red_cli.subprocesses import run_red
from red_cli.train.resume import is_finished

COMPARED = compared_methods()


@dataclass(frozen=True)
class Run:
    """One method under one seed."""

    method: str
    seed: int
    loaded: LoadedRecipe
    arguments: list[str]  # the arguments of `red train`


@dataclass(frozen=True)
class Comparison:
    """The runs of a comparison and its output folder."""

    folder: Path
    methods: list[str]
    runs: list[Run]


def parse_methods(text: str) -> list[str]:
    """Parse `red,lora,full` to a list of method names.

    Raises:
        UserError: a name is not a method, or is given twice.
    """
    names = [part.strip() for part in text.split(",")]
    for name in names:
        if name not in COMPARED:
            raise UserError(
                "unknown-name",
                f"--methods {one_line(text)}: no such method: {shown(name)}",
                hint=f"Methods: {', '.join(COMPARED)}",
            )
        if names.count(name) > 1:
            raise UserError("invalid-option", f"--methods {one_line(text)}: {name} is given twice")
    return names


def plan_comparison(
    recipe: str, variant: str | None, overrides: Sequence[str], methods: Sequence[str], seeds: Sequence[int] | None
) -> Comparison:
    """Plan the runs of a comparison and check their recipes. `METHOD:KEY=VALUE` sets a key for one method only.

    Raises:
        UserError: a recipe is invalid, or a prefix is not a method of the comparison.
    """
    shared, own = _by_method(overrides, methods)
    given = load_recipe(recipe, variant, shared)
    if seeds is not None and named_with_role(shared, {Role.SEED}):
        raise UserError("invalid-option", "train.seed is given, and --seeds as well", hint="Drop one of them.")
    if fixed := [named for texts in own.values() for named in named_with_role(texts, SHARED)]:
        raise UserError("invalid-option", f"{one_line(fixed[0].key)} cannot be set for one method alone")
    name = f"{given.name}-{variant}" if variant else given.name
    folder = Path("runs") / file_name(f"compare-{name}")
    if given.recipe.output.dir is not None:
        folder = expand_user(given.recipe.output.dir)
    runs = []
    for seed in seeds or [given.recipe.train.seed]:
        for method in methods:
            keys = [
                *shared, *COMPARED[method], *own[method], f"train.seed={seed}",
                f"output.dir={folder / method / f'seed{seed}'}",
            ]  # fmt: skip
            loaded = load_recipe(recipe, variant, keys)
            options = ["--variant", variant] if variant else []
            runs.append(Run(method, seed, loaded, [recipe, *options, *keys]))
    return Comparison(folder, list(methods), runs)


def _by_method(overrides: Sequence[str], methods: Sequence[str]) -> tuple[list[str], dict[str, list[str]]]:
    """Split overrides into those that all compared methods share and those of one method (METHOD:KEY=VALUE)."""
    shared: list[str] = []
    own: dict[str, list[str]] = {method: [] for method in methods}
    for override in overrides:
        prefix, colon, rest = override.partition("=")[0].partition(":")
        if not colon:
            if named_with_role([override], {Role.METHOD}):
                raise UserError(
                    "invalid-option", f"{one_line(override)}: give the methods of a comparison with --methods"
                )
            shared.append(override)
        elif prefix in own:
            own[prefix].append(override[len(prefix) + 1 :])
        else:
            raise UserError(
                "unknown-name",
                f"{one_line(override)}: {shown(prefix)} is not one of the methods",
                hint=f"Methods: {', '.join(methods)}. To set a key for one of them: {methods[0]}:{rest}=VALUE",
            )
    return shared, own


def compare(comparison: Comparison, listener: Listener) -> dict[str, Any]:
    """Train the unfinished runs, score all, and write comparison.json and comparison.md.

    A run's peak memory is that of its own process. Scores are those of the test split if it has labels, else of the
    selection split. Checkpoints of finished runs are deleted.

    Raises:
        UserError: a folder holds anything but its run, or the base, the data or a package is missing. Nothing has been
            trained.
        Interrupted: the user stopped it; the same command resumes.
    """
    for run in comparison.runs:
        preflight(run.loaded.recipe)
    from red_cli.inference.evaluate import default_split  # torch, which planning does not need

    finished = [is_finished(run.loaded) for run in comparison.runs]
    split, chose_best = default_split(comparison.runs[0].loaded.recipe)
    failed = []
    for number, (run, done) in enumerate(zip(comparison.runs, finished, strict=True), start=1):
        what = f"[{number}/{len(finished)}] {run.method}, seed {run.seed}"
        if not done and not _train(run, what, listener):
            failed.append({"method": run.method, "seed": run.seed, "folder": str(run.loaded.run_folder)})
            continue
        listener.note(f"{what}: {_score(run, split, listener)}{', finished before' if done else ''}")
        shutil.rmtree(RunFolder(run.loaded.run_folder).checkpoints, ignore_errors=True)
    runs = [(run.method, run.seed, run.loaded) for run in comparison.runs]
    result = summarise(comparison.folder, runs, failed, split, chose_best)
    write_comparison(comparison.folder, result)
    return result


def _train(run: Run, what: str, listener: Listener) -> bool:
    """Train in a separate process; return whether it succeeded. A UserError of the run ends the comparison."""
    listener.status(what)
    said: list[str] = []

    def on_line(line: str) -> None:
        if line.startswith("step "):
            step, *_, left = line.split("  ")
            listener.status(f"{what}: {step}, {left}")
        else:
            said.append(line)

    code, asked = run_red(["train", "--resume", "--json", *run.arguments], on_line)
    reason = next((number for number, line in enumerate(said) if line.startswith("error: ")), len(said))
    message = "\n".join(said[reason:]).removeprefix("error: ")
    if asked or code == Interrupted.exit_code:
        raise Interrupted("interrupted", "the comparison was stopped", hint="To resume, give the same command again.")
    if code == UserError.exit_code:
        raise UserError("run-failed", f"{run.method}, seed {run.seed}: {message}")
    if code != 0:
        listener.note(f"{what}: failed: {message or f'the process was killed by signal {-code}'}")
    return code == 0


def _score(run: Run, split: str, listener: Listener) -> str:
    """The run's score of a method on a split in words; computed now unless the run has done so."""
    from red_cli.inference.evaluate import evaluate
    from red_cli.runs.opened import open_for_inference

    folder = run.loaded.run_folder
    if split not in RunFolder(folder).read_results()["splits"]:
        listener.status(f"scoring the {split} split")
        evaluate(open_for_inference(folder, None, consent_of(run.loaded.recipe)), split, folder, listener)
    metrics = RunFolder(folder).read_results()
    scores = metrics["splits"][split]
    names = headline_metrics(metrics["metric"], scores)
    listed = ", ".join(f"{name} {format_score(name, scores[name])}" for name in names)
    return f"{listed} on {split}, learning rate {metrics['learning_rate']:g}"
