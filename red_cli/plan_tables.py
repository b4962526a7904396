"""Plans as rows of label and value: the method, the rows, the steps, and what a user should know."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from red_cli.formatting import byte_size, number_of
from red_cli.recipe.metric_names import metric_name
from red_cli.tasks.labels.classes import classes_in_words

if TYPE_CHECKING:
    from red_cli.base_model.base_dtype import BaseDtype
    from red_cli.plan.devices import DeviceOption
    from red_cli.plan.host_memory import HostMemory
    from red_cli.plan.plan import PlanSummary

_SHOWN_CLASSES = 10


def plan_rows(plan: PlanSummary, folder: str) -> list[tuple[str, str]]:
    """The rows of a plan, for the start of a run."""
    base, architecture, task, *others = subject_rows(plan)
    classes = [("classes", classes_in_words(plan.classes["train"], _SHOWN_CLASSES))] if "train" in plan.classes else []
    rows, *more = data_rows(plan)
    return [task, base, architecture, *others, rows, *classes, *more, *schedule_rows(plan), *note_rows(plan),
            ("run folder", folder)]  # fmt: skip


def subject_rows(plan: PlanSummary) -> list[tuple[str, str]]:
    """The rows of a plan on its subject: the base, its architecture, the task, the method and what it trains."""
    counts = plan.counts
    return [
        ("base", plan.base),
        ("", f"{plan.architecture}, {counts.base:,} parameters{_dtype_text(plan.dtype)}"),
        ("task", f"{plan.task}, scored by {metric_name(plan.metric, plan.label_names)}"),
        ("method", f"{plan.method}: {plan.trains}"),
        *([("changed", f"{len(plan.edited_modules)} modules, {plan.edited_pattern}")] if plan.edited_modules else []),
        ("parameters", counts_text(plan.method, counts.edited, counts.share, counts.head)),
    ]


def _dtype_text(dtype: BaseDtype) -> str:
    """The dtype of a plan's base after its size, with where it comes from if the recipe leaves it open.

    Empty for float32 as its files.
    """
    if dtype.is_usual:
        return ""
    return f", {dtype.name}" if dtype.why is None else f", {dtype.name} {dtype.why}"


def data_rows(plan: PlanSummary) -> list[tuple[str, str]]:
    """The splits with their rows, the rows left out, and the lengths; the first row is that of the splits."""
    train = plan.lengths["train"]
    cut = "".join(
        f"; {'' if split == 'train' else f'{split} '}{rows_cut(lengths.truncated, lengths.ends_cut, plan.max_length)}"
        for split, lengths in plan.lengths.items()
        if lengths.truncated
    )
    return [
        ("rows", ", ".join(f"{split} {lengths.rows:,}" for split, lengths in plan.lengths.items())),
        *_left_out_rows(plan),
        *scoring_rows(asdict(plan.scoring)),
        ("tokens a row", f"median {train.median}, 95% up to {train.percentile_95}, longest {train.longest}{cut}"),
        *([("encoded rows", plan.encoded_rows)] if plan.encoded_rows else []),
    ]


def schedule_rows(plan: PlanSummary) -> list[tuple[str, str]]:
    """The steps, the learning rate, the processes and the memory."""
    micro = f" ({plan.micro_batch_size} at once)" if plan.micro_batch_size else ""
    rows = [
        ("steps", f"{plan.total_steps:,} of {plan.batch_size} rows{micro}, {plan.warmup_steps} to warm up"),
        ("learning rate", _rate_text(plan)),
        *([("runs on", _strategy_text(plan))] if plan.processes > 1 or plan.strategy.strategy != "single" else []),
    ]
    if plan.memory is not None:
        rows.append(("memory", f"about {byte_size(plan.memory.total)} with {plan.memory.rows} longest rows at once"))
    if plan.prefix is not None and plan.prefix.obstacle is None:
        layers = number_of(plan.prefix.layers, "layer")
        rows.append(("cached prefix", f"the first {layers}, about {byte_size(plan.prefix.size)} on disk"))
    if plan.host.processes > 1 or not plan.host.fits:
        rows.append(("host memory", _host_text(plan.host)))
    return rows


def _host_text(host: HostMemory) -> str:
    """The memory of a machine for all of a plan's processes on it, as text."""
    count = "1 process" if host.processes == 1 else f"{host.processes} processes"
    needed = f"about {byte_size(host.loading)} to load, {byte_size(host.training)} in training, {count}"
    return (
        f"{needed}, {host.strategy}; {'this' if host.fits else 'TOO MUCH: this'} machine has {byte_size(host.machine)}"
    )


def note_rows(plan: PlanSummary) -> list[tuple[str, str]]:
    """What a user should know before the run: of the export, the paper's figures, the texts and idle keys."""
    rows = []
    if plan.export_obstacle is not None:
        ways = "as adapter, with --format code, or with red.components=[scale]"
        rows.append(("export", f"{ways}: {plan.export_obstacle}"))
    if plan.paper_mismatch is not None:
        rows.append(("paper", f"its figure is not shown: {plan.paper_mismatch}"))
    found = [line for split, tokens in plan.special_tokens.items() for line in tokens.lines(split)]
    return [*rows, *(("note", note) for note in (*found, *plan.notes))]


def _left_out_rows(plan: PlanSummary) -> list[tuple[str, str]]:
    """The rows of a plan's table with the number of rows left out of each split, by reason."""
    splits = []
    for split, lengths in plan.lengths.items():
        reasons = ", ".join(f"{count:,} with {reason}" for reason, count in lengths.left_out.items())
        if reasons:
            total = lengths.rows + sum(lengths.left_out.values())
            splits.append(("", f"of {total:,} {split} rows left out: {reasons}"))
    return splits


def rows_cut(truncated: int, ends_cut: int, longest: int) -> str:
    """What a plan's table says of truncated rows: their number, and that of those that lost their end token."""
    return f"{truncated:,} cut at {longest:,}" + (f", {ends_cut:,} without their end" if ends_cut else "")


def counts_text(method: str, part: int, share: float, head: int) -> str:
    """The trained parameters as a plan's table has them: those of the method, their share of the base, and the head."""
    if part == 0:
        return f"{head:,} head"
    return f"{part:,} {_word_of(method)} ({share:.3%} of the base) + {head:,} head"


def _word_of(method: str) -> str:
    """The word in a plan's table for a method's parameters; the method is given by its name or its title."""
    from red_cli.recipe.methods import METHODS

    return next(spec.word for name, spec in METHODS.items() if method in (name, spec.title))


def _strategy_text(plan: PlanSummary) -> str:
    """The number of processes of a plan as text, with the strategy and its reason."""
    count = "1 process" if plan.processes == 1 else f"{plan.processes} processes"
    reason = f": {plan.strategy.reason}" if plan.strategy.reason else ""
    return f"{count}, {plan.strategy.strategy}{reason}"


def devices_columns(devices: Sequence[DeviceOption]) -> list[list[str]]:
    """A table of the strategy, memory and traffic that a recipe needs on different numbers of devices."""
    rows = [["devices", "strategy", "memory on each", "sent by each in a step"]]
    for fit in devices:
        strategy = fit.strategy or "does not fit"
        rows.append([f"{fit.devices}", strategy, byte_size(fit.memory), byte_size(fit.sent)])
    return rows


def _rate_text(plan: PlanSummary) -> str:
    """The learning rate of a plan as text, or the search that will find it."""
    search = plan.search
    if search is None:
        if not plan.relative_rates:
            return f"{plan.learning_rate:g}"
        share = f" / {plan.modules_per_layer} modules in a layer" if plan.modules_per_layer > 1 else ""
        return f"{plan.learning_rate:g}{share}, for biases times the spread of outputs"
    if not search.sweeps:
        return f"auto: {search.usual:g}, the usual one: {search.why_none}"
    sweeps = "a sweep" if search.sweeps == 1 else f"{search.sweeps} sweeps"
    return f"auto: {sweeps} from {search.lowest:g} to {search.highest:g}, {search.total} steps before the run"


def scoring_rows(scoring: dict[str, Any]) -> list[tuple[str, str]]:
    """The plan's rows of label and value `chosen by` and `scored`; none if both are the same rows."""
    if scoring["selection"] == scoring["scored"]:
        return []
    return [("chosen by", scoring["selection"]["rows"]), ("scored", scoring["scored"]["rows"])]
