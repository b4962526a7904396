"""The sections of a run's report on its results: scores, classes, confusions, errors and samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from red_cli.formatting import beginning, byte_size, duration, plus_minus
from red_cli.recipe.metrics import UNTUNED
from red_cli.recipe.paper import Paper
from red_cli.recipe.score_format import displayed_score, format_score, format_untuned_remark, is_percentage
from red_cli.report.document import Fact, Quote, Section, Table
from red_cli.report.find_runs import FinishedRun
from red_cli.report.training_log import Curve, Sample
from red_cli.runs.folder import RunFolder

_MOST_IN_A_MATRIX = 12  # classes
_MOST_CONFUSIONS = 10
_LONGEST_TEXT, _LONGEST_LABEL = 600, 24  # characters


def facts_section(run: FinishedRun) -> Section:
    """The section of a run's report with what a reader asks first: the score, the untuned one, and the cost."""
    metrics, split = run.metrics, run.result_split
    score = metrics["splits"][split][run.metric]
    facts = [Fact(f"{run.metric_title()}, {split}", format_score(run.metric, score), _rows(metrics, split))]
    if (untuned := untuned_score(run)) is not None:
        count = metrics["splits"][run.selection_split]["examples"]
        remark = format_untuned_remark(metrics["untuned"], count, metrics["parameters"]["head"])
        facts.append(Fact("untuned", format_score(run.metric, untuned), f"{run.selection_split}, {remark}"))
    majority = (metrics.get("majority") or {}).get(split)
    if majority is not None and run.metric in majority:
        label = beginning(str(majority["label"]), _LONGEST_LABEL)
        facts.append(Fact("commonest class alone", format_score(run.metric, majority[run.metric]), f"always {label}"))
    if (paper := _paper(run)) is not None:
        facts.append(paper)
    if metrics.get("method") == UNTUNED:
        return Section(facts=facts)
    parameters, training, best = metrics["parameters"], metrics["training"], metrics["best"]
    head = f", and {parameters['head']:,} of the head" if parameters["head"] else ""
    facts += [
        Fact("trained parameters", f"{parameters['edited']:,}", f"{parameters['share']:.3%} of the base{head}"),
        Fact("best at", f"epoch {best['epoch']:.3g}", f"step {best['step']:,} of {training['steps']:,}"),
        Fact("training took", duration(training["seconds"]),
             f"on {training['device']}, {byte_size(training['peak_memory_bytes'])} at most"),
    ]  # fmt: skip
    return Section(facts=facts)


def untuned_score(run: FinishedRun) -> float | None:
    """The score before training, for the sections of results; None if it is not known."""
    untuned = run.metrics.get("untuned") or {}
    return untuned.get(run.metric) if untuned.get("split") == run.selection_split else None


def _rows(metrics: Mapping[str, Any], split: str) -> str:
    """The number of rows of a split as the remark of a report's fact."""
    return f"{metrics['splits'][split]['examples']:,} rows"


def _paper(run: FinishedRun) -> Fact | None:
    """The paper's figure for a run's score in its report; None if there is none."""
    if not run.metrics.get("paper"):
        return None
    paper = Paper.model_validate(run.metrics["paper"])
    if (figure := paper.figure(run.metric)) is None:
        return None
    text = plus_minus(str(figure.score), "" if figure.std is None else str(figure.std))
    return Fact("the paper's figure", text, f"{paper.model}, Table {paper.table}")


def scores_section(run: FinishedRun) -> Section:
    """The section of a run's report with every metric of every split, and the untuned ones."""
    splits, untuned = run.metrics["splits"], run.metrics.get("untuned") or {}
    before = untuned.get("split")
    columns: list[tuple[str, Mapping[str, Any]]] = []
    for split, scores in splits.items():
        columns += [(f"{split}, untuned", untuned)] if split == before else []
        columns.append((f"{split}, {scores['examples']:,} rows", scores))
    names = list(dict.fromkeys(name for scores in splits.values() for name in scores if name != "examples"))
    rows = [[_metric_with_unit(run, name), *(_score(name, scores) for _, scores in columns)] for name in names]
    chose = f"The score on {run.selection_split} chose the best evaluation."
    return Section("Scores", text=chose, table=Table(["metric", *(title for title, _ in columns)], rows))


def _score(name: str, scores: Mapping[str, Any]) -> str:
    """One score of a run as a cell of its report; empty if there is none."""
    value = scores.get(name)
    return format_score(name, value) if isinstance(value, int | float) else ""


def _metric_with_unit(run: FinishedRun, name: str) -> str:
    """The title of a row in the sections of results: a metric, or a part such as accuracy.boolq, and its unit."""
    return f"{run.metric_title(name)}{', percent' if is_percentage(name) else ''}"


def class_sections(run: FinishedRun) -> list[Section]:
    """The sections of a run's report on each class: its scores, and what it is taken for."""
    sections = []
    for split, classes in (run.metrics.get("classes") or {}).items():
        rows = [
            [str(entry["label"]), f"{entry['rows']:,}", f"{entry['predicted']:,}",
             *(f"{displayed_score('f1', entry[name]):.2f}" for name in ("precision", "recall", "f1"))]
            for entry in classes
        ]  # fmt: skip
        header = ["class", "rows", "predicted", "precision", "recall", "F1"]
        sections.append(Section(f"Classes of {split}", table=Table(header, rows)))
        if counts := (run.metrics.get("confusion") or {}).get(split):
            sections.append(_confusion_section(split, [str(entry["label"]) for entry in classes], counts))
    return sections


def _confusion_section(split: str, labels: Sequence[str], counts: Sequence[Sequence[int]]) -> Section:
    """The section of a run's report on confusions: a matrix, or the largest confusions of many classes."""
    if len(labels) > _MOST_IN_A_MATRIX:
        wrong = [(count, true, predicted) for true, row in enumerate(counts) for predicted, count in enumerate(row)
                 if count and true != predicted]  # fmt: skip
        wrong.sort(key=lambda found: -found[0])
        listed = [[labels[true], labels[predicted], f"{count:,}"] for count, true, predicted in wrong]
        text = f"The largest of {len(wrong):,} confusions between {len(labels):,} classes." if wrong else "None."
        table = Table(["true class", "predicted", "rows"], listed[:_MOST_CONFUSIONS], left=2) if wrong else None
        return Section(f"What {split} rows are taken for", text=text, table=table)
    names = [beginning(label, _LONGEST_LABEL) for label in labels]
    rows = [[name, *(f"{count:,}" for count in row)] for name, row in zip(names, counts, strict=True)]
    shades = [[None, *((count / sum(row) if count else None) for count in row)] for row in counts]
    text = "Rows by their true class (down) and the predicted one (across); the colour is the share of the true class."
    table = Table(["true class", *names], rows, shades=shades, hue="count")
    return Section(f"What {split} rows are taken for", text=text, table=table)


def error_sections(run: FinishedRun) -> list[Section]:
    """The sections of a run's report with the most confident wrong predictions and their texts."""
    found = {**(run.metrics.get("errors") or {}), **(run.metrics.get("mistakes") or {})}
    return [
        Section(
            f"Most confident errors of {split}" if "probability" in errors[0] else f"Errors of {split}",
            text=_how_many(run, split, len(errors)),
            quotes=[
                Quote(
                    f"Predicted {beginning(str(entry['prediction']), _LONGEST_LABEL)}{_sure(entry)}",
                    [
                        ("text", beginning(str(entry["text"]), _LONGEST_TEXT)),
                        ("right", str(entry["label"])),
                        ("row", f"{entry['row']:,}"),
                    ],
                )
                for entry in errors
            ],
        )
        for split, errors in found.items()
        if errors
    ]  # fmt: skip


def _how_many(run: FinishedRun, split: str, shown: int) -> str:
    """How many wrong rows a report shows of those in the run's file; empty if the file is missing."""
    kept = RunFolder(run.path).count_errors(split)
    if kept > shown:
        return f"The first {shown} of {kept:,} in predictions/errors.csv of the run."
    return "These are all of them." if kept else ""


def _sure(error: Mapping[str, Any]) -> str:
    """In the section on errors, how sure a prediction was; empty for tasks without probabilities."""
    return f", {error['probability']:.1%} sure" if "probability" in error else ""


def sample_sections(curve: Curve, best_step: int) -> list[Section]:
    """The section of a run's report with the fixed prompts, as the first and the best evaluation answered them."""
    by_step = {step: samples for step, samples in curve.samples if samples}
    if not by_step:
        return []
    shown = sorted({min(by_step), best_step if best_step in by_step else max(by_step)})
    quotes = []
    for number, sample in enumerate(by_step[shown[-1]]):
        answers = [(_when(step), _answer(by_step[step], number)) for step in shown]
        right = [] if sample.label is None else [("right", beginning(sample.label, _LONGEST_TEXT))]
        prompt = ("prompt", beginning(sample.prompt, _LONGEST_TEXT))
        quotes.append(Quote(f"Sample {number + 1}", [prompt, *answers, *right]))
    return [Section("Samples", text="The same prompts, answered by the first and the best evaluation.", quotes=quotes)]


def _when(step: int) -> str:
    """The evaluation that a sample of a report is from."""
    return f"step {step:,}" if step else "untuned"


def _answer(samples: Sequence[Sample], number: int) -> str:
    """The answer to one of the samples' prompts, cut to a report's length."""
    return beginning(samples[number].answer, _LONGEST_TEXT) if number < len(samples) else ""
