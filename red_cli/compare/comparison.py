"""Compare methods on the same recipe, data, head, loop and seeds. Each run has its own process, or all share one."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from red_cli.compare.comparison_table import notes_of, tables_of
from red_cli.compare.grid import Point, folder_name, parse_grids, points_of
from red_cli.compare.learning_rates import Source, choose_rate
from red_cli.compare.planned_runs_file import write_planned
from red_cli.compare.summary import row_name, summarise
from red_cli.errors import Interrupted, UserError, one_line, shown
from red_cli.escape import file_name, markdown_code
from red_cli.files import expand_user, write_json, write_text
from red_cli.formatting import number_of, without_time_of_day
from red_cli.recipe.chosen_metrics import headline_metrics
from red_cli.recipe.keys_by_role import overrides_with_role
from red_cli.recipe.load import LoadedRecipe, load_recipe
from red_cli.recipe.methods import compared_methods
from red_cli.recipe.metric_names import stored_title
from red_cli.recipe.metrics import UNTUNED
from red_cli.recipe.roles import SHARED, Role
from red_cli.recipe.score_format import format_score
from red_cli.runs.consent import consent_of
from red_cli.runs.events import Listener
from red_cli.runs.folder import RunFolder
from red_cli.runs.preflight import preflight
from red_cli.subprocesses import run_red
from red_cli.train.resume import is_finished

# For the untuned base, so that its recipe depends on nothing that only training uses
_WITHOUT_TRAINING = ("train.init_from=null", "train.learning_rate=1e-3")
COMPARED = {UNTUNED: list[str](), **compared_methods()}
JSON_FILE, MARKDOWN_FILE = "comparison.json", "comparison.md"


@dataclass(frozen=True)
class Run:
    """A run of a comparison: one method under one seed, at one point of the grid."""

    method: str
    point: Point
    seed: int
    rate: Source | None  # where the learning rate comes from; None for the untuned base
    loaded: LoadedRecipe
    arguments: list[str]  # the arguments of `red train`

    @property
    def name(self) -> str:
        """The name of the row that the run belongs to."""
        return row_name(self.method, {setting.key: setting.text for setting in self.point})


@dataclass(frozen=True)
class Comparison:
    """A comparison: its runs and its output folder."""

    folder: Path
    methods: list[str]
    runs: list[Run]

    @property
    def text(self) -> str:
        """The number of runs, and where the learning rates of the methods come from."""
        rates: dict[str, list[str]] = {}
        for run in self.runs:
            rate = run.loaded.recipe.train.learning_rate
            if run.rate is not None and run.rate != "grid":
                entry = f"{run.method} {rate if isinstance(rate, str) else f'{rate:g}'}"
                if entry not in rates.setdefault(_SOURCES[run.rate], []):
                    rates[_SOURCES[run.rate]].append(entry)
        seeds, rows = len({run.seed for run in self.runs}), len({run.name for run in self.runs})
        listed = "; ".join(f"{source}: {', '.join(entries)}" for source, entries in rates.items())
        count = f"{number_of(len(self.runs), 'run')}: {number_of(rows, 'row')} x {number_of(seeds, 'seed')}."
        return f"{count} Learning rates: {listed}." if listed else count


_SOURCES: dict[Source, str] = {
    "recipe": "the recipe's",
    "usual": "the method's usual one",
    "override": "as given",
    "search": "by a search",
    "grid": "of the grid",
}


Trainer = Callable[[Run, str, Listener], bool]  # (the run, its name on the screen, listener) -> whether it succeeded


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
    recipe: str,
    variant: str | None,
    overrides: Sequence[str],
    methods: Sequence[str] | None,
    seeds: Sequence[int] | None,
    grids: Sequence[str] = (),
) -> Comparison:
    """Plan the runs of a comparison and check their recipes. `METHOD:KEY=VALUE` sets a key for one method only.

    A method whose learning rate is not set has its usual one; the rate in the recipe is that of its own method.

    Args:
        methods: None with a grid takes the recipe's own method.
        grids: the options --grid, `[METHOD:]KEY=VALUE,VALUE`.

    Raises:
        UserError: a recipe or a grid is invalid, or a prefix is not a method of the comparison.
    """
    if methods is None:
        if not grids:
            raise UserError(
                "invalid-option", "give the methods to compare, or a grid", hint=f"--methods {','.join(COMPARED)}"
            )
        methods = [load_recipe(recipe, variant).recipe.method]
    shared, own = _by_method(overrides, methods)
    varied = parse_grids(grids, methods, [*shared, *(key for keys in own.values() for key in keys)])
    given = load_recipe(recipe, variant, shared)
    if seeds is not None and overrides_with_role(shared, {Role.SEED}):
        raise UserError("invalid-option", "train.seed is given, and --seeds as well", hint="Drop one of them.")
    if fixed := [named for texts in own.values() for named in overrides_with_role(texts, SHARED)]:
        raise UserError("invalid-option", f"{one_line(fixed[0].key)} cannot be set for one method alone")
    name = f"{given.name}-{variant}" if variant else given.name
    folder = Path("runs") / file_name(f"compare-{name}")
    if given.recipe.output.dir is not None:
        folder = expand_user(given.recipe.output.dir)
    rows: list[tuple[str, Point, Source | None, list[str]]] = []
    for method in methods:
        keys = [*shared, *COMPARED[method], *own[method]]
        if method == UNTUNED:
            rows.append((method, (), None, [*keys, *_WITHOUT_TRAINING]))
            continue
        for point in points_of(method, varied):
            settings = [setting.override for setting in point]
            alone = load_recipe(recipe, variant, [*keys, *settings])
            rate = choose_rate(given, alone, [*shared, *own[method]], [setting.key for setting in point])
            rows.append((method, point, rate.source, [*keys, *rate.overrides, *settings]))
    runs = []
    for seed in seeds or [given.recipe.train.seed]:
        for method, point, source, keys in rows:
            place = folder / method / folder_name(point) / f"seed{seed}"
            arguments = [*keys, f"train.seed={seed}", f"output.dir={place}"]
            loaded = load_recipe(recipe, variant, arguments)
            options = ["--variant", variant] if variant else []
            runs.append(Run(method, point, seed, source, loaded, [recipe, *options, *arguments]))
    return Comparison(folder, list(methods), runs)


def _by_method(overrides: Sequence[str], methods: Sequence[str]) -> tuple[list[str], dict[str, list[str]]]:
    """Split overrides into those that all compared methods share and those of one method (METHOD:KEY=VALUE)."""
    shared: list[str] = []
    own: dict[str, list[str]] = {method: [] for method in methods}
    for override in overrides:
        prefix, colon, rest = override.partition("=")[0].partition(":")
        if not colon:
            if overrides_with_role([override], {Role.METHOD}):
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


def compare(
    comparison: Comparison, listener: Listener, command: Sequence[str] = (), train: Trainer | None = None
) -> dict[str, Any]:
    """Run a comparison: train the unfinished runs, score all, and write comparison.json and comparison.md.

    A run's peak memory is that of its process. Scores are those of the test split if it has labels, else of the
    selection split. Checkpoints of finished runs are deleted.

    Args:
        command: what the user typed, for the record of the planned runs.
        train: how runs are trained; None: each in its own process.

    Raises:
        UserError: a folder holds anything but its run, or the base, the data or a package is missing. Nothing has been
            trained.
        Interrupted: the user stopped it; the same command resumes.
    """
    for run in comparison.runs:
        preflight(run.loaded.recipe)
    from red_cli.compare.untuned_base import score_untuned_base  # torch, which planning does not need
    from red_cli.inference.evaluate import default_split

    listener.note(comparison.text)
    finished = [is_finished(run.loaded) for run in comparison.runs]
    split, chose_best = default_split(comparison.runs[0].loaded.recipe)
    failed = []
    train = train or _train
    write_planned(comparison.folder, [run.loaded.run_folder for run in comparison.runs], command)
    for number, (run, done) in enumerate(zip(comparison.runs, finished, strict=True), start=1):
        what = f"[{number}/{len(finished)}] {run.name}, seed {run.seed}"
        if run.method == UNTUNED:
            if not done:
                listener.status(f"{what}: scoring the base")
                score_untuned_base(run.loaded, split, listener)
            listener.note(f"{what}: {_score_text(run, split)}{', finished before' if done else ''}")
            continue
        if not done and not train(run, what, listener):
            failed.append(
                {"method": run.method, "name": run.name, "seed": run.seed, "folder": str(run.loaded.run_folder)}
            )
            continue
        listener.note(f"{what}: {_score(run, split, listener)}{', finished before' if done else ''}")
        shutil.rmtree(RunFolder(run.loaded.run_folder).checkpoints, ignore_errors=True)
    result = summarise(comparison.folder, comparison.runs, failed, split, chose_best)
    write_comparison(comparison.folder, result)
    return result


def _train(run: Run, what: str, listener: Listener) -> bool:
    """Train in a separate process; return whether it succeeded. A UserError of the run ends the comparison."""
    listener.status(what)
    said: list[str] = []

    def on_line(line: str) -> None:
        line = without_time_of_day(line)
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
        raise UserError("run-failed", f"{run.name}, seed {run.seed}: {message}")
    if code != 0:
        listener.note(f"{what}: failed: {message or f'the process was killed by signal {-code}'}")
    return code == 0


def _score(run: Run, split: str, listener: Listener) -> str:
    """The run's score of a method on a split in words; computed now unless the run has done so."""
    from red_cli.inference.evaluate import evaluate
    from red_cli.runs.open_trained import open_for_inference

    folder = run.loaded.run_folder
    if split not in RunFolder(folder).read_results()["splits"]:
        listener.status(f"scoring the {split} split")
        evaluate(open_for_inference(folder, None, consent_of(run.loaded.recipe)), split, folder, listener)
    return _score_text(run, split)


def _score_text(run: Run, split: str) -> str:
    """The scores of a compared run of a method on a split, and its learning rate."""
    metrics = RunFolder(run.loaded.run_folder).read_metrics()
    scores = metrics["splits"][split]
    names = headline_metrics(metrics["metric"], scores)
    listed = ", ".join(f"{stored_title(metrics, name)} {format_score(name, scores[name])}" for name in names)
    rate = "" if run.rate is None else f", learning rate {metrics['learning_rate']:g}"
    return f"{listed} on {split}{rate}"


def write_comparison(folder: Path, result: dict[str, Any]) -> None:
    """Write the comparison's table to comparison.md, and its data to comparison.json, each atomically."""
    write_json(folder / JSON_FILE, result)
    if not result["rows"]:
        return
    lines: list[str] = []
    for heading, *rows in tables_of(result):
        lines += ["| " + " | ".join(cells) + " |" for cells in (heading, ["---"] * len(heading), *rows)]
        lines.append("")
    notes = [
        *(f"{note}." for note in notes_of(result)),
        "Mean ± sample standard deviation (number of seeds), or both values of two seeds; never the best seed.",
        f"Base: {markdown_code(str(result['base']))}, {result['base_parameters']:,} parameters.",
        "trained: the method's own parameters; head: those that every method trains as well; rate: learning rate,",
        "the lowest and the highest of the seeds; ms/step: of training; memory: the peak of the run's own process (on",
        "a GPU: of what torch allocated there), the largest of the seeds; file: the tensors that are saved, in bytes.",
        *(f"{run['name']}, seed {run['seed']} failed." for run in result["failed"]),
    ]
    write_text(folder / MARKDOWN_FILE, "\n".join([*lines, *notes]) + "\n")
