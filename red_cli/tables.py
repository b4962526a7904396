"""What a plan, a run, an evaluation or an export has to say: rows of two columns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from red_cli.tasks.metrics import written

if TYPE_CHECKING:
    from red_cli.run.plan import Plan


def plan_rows(plan: Plan, folder: str | None = None) -> list[tuple[str, str]]:
    """A plan in a few lines."""
    counts, train = plan.counts, plan.lengths["train"]
    splits = ", ".join(f"{split} {lengths.rows:,}" for split, lengths in plan.lengths.items())
    cut = f"; {train.truncated:,} cut at {plan.max_length}" if train.truncated else ""
    cut += f", {train.ends_cut:,} without their end" if train.ends_cut else ""
    micro = f" ({plan.micro_batch_size} at once)" if plan.micro_batch_size else ""
    rows = [
        ("task", f"{plan.task}, scored by {plan.metric}"),
        ("base", plan.base),
        ("", f"{plan.architecture}, {counts.base:,} parameters, frozen"),
        ("edited", f"{len(plan.edited_modules)} modules, {plan.edited_pattern}"),
        ("parameters", _parameters_text(counts.edited, counts.share, counts.head)),
        ("rows", splits),
        ("tokens a row", f"median {train.median}, 95% up to {train.percentile_95}, longest {train.longest}{cut}"),
        ("steps", f"{plan.total_steps:,} of {plan.batch_size} rows{micro}, {plan.warmup_steps} to warm up"),
    ]
    if plan.memory is not None:
        rows.append(
            ("memory", f"about {plan.memory.total / 2**30:.2f} GiB with {plan.memory.rows} longest rows at once")
        )
    if folder is not None:
        rows.append(("run folder", folder))
    return rows


def result_rows(result: dict[str, Any]) -> list[tuple[str, str]]:
    """What a finished run has to say, from its metrics."""
    rows = []
    paper = result.get("paper")
    for split, scores in result["splits"].items():
        for name, value in scores.items():
            if name != "examples":
                rows.append((name, f"{written(name, value)}  {split}, {scores['examples']:,} rows"))
    if paper:
        rows.append(("paper", _paper_text(paper)))
    best, parameters, training = result["best"], result["parameters"], result["training"]
    speed = training["examples_per_second"]
    rows += [
        ("best at", f"step {best['step']:,} of {training['steps']:,} (epoch {best['epoch']:.3g})"),
        ("parameters", _parameters_text(parameters["edited"], parameters["share"], parameters["head"])),
        ("time", f"{duration(training['seconds'])} of training, {speed:,.0f} rows/s on {training['device']}"),
        ("peak memory", f"{training['peak_memory_bytes'] / 2**30:.2f} GiB"),
        ("run folder", result["folder"]),
    ]
    return rows


def evaluation_rows(result: dict[str, Any]) -> list[tuple[str, str]]:
    """What an evaluation has to say."""
    count = f"{result['split']}, {result['examples']:,} rows"
    if result["scores"] is None:
        rows = [("not scored", f"{count}: the split has no labels")]
    else:
        rows = [(name, f"{written(name, value)}  {count}") for name, value in result["scores"].items()]
    if result.get("paper"):
        rows.append(("paper", _paper_text(result["paper"])))
    return [*rows, ("predictions", result["predictions"])]


def export_rows(result: dict[str, Any]) -> list[tuple[str, str]]:
    """What an export has to say."""
    rows = [("exported", f"{result['output']} ({result['edited_modules']} edits folded into the weights)")]
    if result["largest_difference"] is not None:
        text = f"{result['examples']} examples, logits differ by at most {result['largest_difference']:.1e}"
        rows.append(("checked", text))
    return rows


def conversion_rows(result: dict[str, Any]) -> list[tuple[str, str]]:
    """What a conversion has to say."""
    red = result["red"]
    places = red["target_modules"] or f"{', '.join(red['positions'])}, layers {red['layers']}"
    head = f" + {result['head_parameters']:,} head" if result["head_parameters"] else ""
    return [
        ("adapter", result["output"]),
        ("edited", f"{result['modules']} modules: {places}; {' and '.join(red['components'])}"),
        ("parameters", f"{result['edited_parameters']:,} edited{head}"),
        *(("warning", text) for text in result["warnings"]),
    ]


def _parameters_text(edited: int, share: float, head: int) -> str:
    beside = f" + {head:,} head" if head else ""
    return f"{edited:,} edited ({share:.3%} of the base){beside}"


def _paper_text(paper: dict[str, Any]) -> str:
    spread = f" ± {paper['std']}" if paper.get("std") is not None else ""
    note = f"; {paper['note']}" if paper.get("note") else ""
    return f"{paper['score']}{spread}  {paper['model']}, Table {paper['table']}{note}"


def duration(seconds: float) -> str:
    """Seconds in words."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {seconds:02d} s" if minutes else f"{seconds} s"
