"""Plans, runs, evaluations and exports as rows of label and value, or as tables."""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import Any

from red_cli.finding_tables import floor_rows
from red_cli.formatting import byte_size, duration, plus_minus, speed_text
from red_cli.plan_tables import counts_text, rows_cut, scoring_rows
from red_cli.recipe.metric_names import stored_name
from red_cli.recipe.score_format import format_score, format_scores
from red_cli.tasks.presets.commonsense_protocol import COMMONSENSE, GENERATED, LIKELIEST

# The note on scored rows that also selected the best evaluation
_CHOSE = {"all": ", which chose the best step", "some": ", some of which chose the best step", "none": ""}
_WAYS = {GENERATED: "generated", LIKELIEST: "likeliest"}
_MISSING = "-"


def result_rows(result: dict[str, Any]) -> list[tuple[str, str]]:
    """The rows of a finished run's results, from its metrics.json."""
    rows = []
    paper = result.get("paper")
    selection = result["scoring"]["selection"]["split"]
    for split, scores in result["splits"].items():
        chose = _CHOSE["all" if split == selection else "none"]
        for name, value in _without_subtasks(scores).items():
            if name != "examples":
                count = f"{split}, {scores['examples']:,} rows{chose}"
                text = f"{format_score(name, value)}{_paper_suffix(paper, name)}  {count}"
                rows.append((stored_name(result, name), text))
    rows += floor_rows(result, result["splits"][selection]["examples"])
    if paper:
        shown = {name for scores in result["splits"].values() for name in scores}
        rows.append(("paper", _paper_text(paper, shown)))
    rows += scoring_rows(result["scoring"])
    best, parameters, training = result["best"], result["parameters"], result["training"]
    speed = training["examples_per_second"]
    rows += [
        ("best at", f"step {best['step']:,} of {training['steps']:,} (epoch {best['epoch']:.3g})"),
        ("parameters", counts_text(result["method"], parameters["edited"], parameters["share"], parameters["head"])),
        ("learning rate", f"{result['learning_rate']:g}{_found_text(result['learning_rate_search'])}"),
        ("time", f"{duration(training['seconds'])} of training, {speed_text(speed, 'rows')} on {training['device']}"),
        ("peak memory", byte_size(training["peak_memory_bytes"])),
        ("run folder", result["folder"]),
    ]
    return rows


def _found_text(search: dict[str, Any] | None) -> str:
    """The text after the learning rate in a result table if a search found it."""
    return "" if search is None else f", found in {search['steps']} steps before the run"


def seeds_rows(result: dict[str, Any]) -> list[tuple[str, str]]:
    """The rows of a recipe's results under several seeds."""
    rows = []
    for split, scores in result["splits"].items():
        for name, score in _without_subtasks(scores).items():
            if name != "examples":
                values = "  ".join(f"{seed}: {format_score(name, value)}" for seed, value in score["seeds"].items())
                count = f"{split}, {scores['examples']:,} rows"
                text = format_scores(name, list(score["seeds"].values()))
                rows.append((stored_name(result, name), f"{text}  {count}; by seed  {values}"))
    if result.get("paper"):
        rows.append(("paper", _paper_text(result["paper"], ())))
    rates = dict.fromkeys(f"{rate:g}" for rate in result["learning_rates"].values())
    rows.append(("learning rate", ", ".join(rates)))
    return [*rows, *(("run folder", folder) for folder in result["folders"].values())]


def evaluation_rows(result: dict[str, Any]) -> list[tuple[str, str]]:
    """The rows that `red eval` shows."""
    rows_text = f"{result['examples']:,} rows"
    if result["inputs"] != result["examples"]:
        rows_text = f"{result['inputs']:,} inputs in {rows_text}"
    count = f"{result['split']}, {rows_text}{_CHOSE[result['chose_best'] or 'none']}"
    if result["scores"] is None:
        rows = [("not scored", f"{count}: the split has no labels")]
    else:
        paper = result.get("paper")
        rows = [
            (stored_name(result, name), f"{format_score(name, value)}{_paper_suffix(paper, name)}  {count}")
            for name, value in _without_subtasks(result["scores"]).items()
        ]
        rows += [(name, f"not computed: {reason}") for name, reason in result["not_computed"].items()]
        rows += floor_rows(result, result["examples"])
    if result["truncated"] and result["scores"] is None:  # else there is a note
        rows.append(("rows cut", rows_cut(result["truncated"], result["ends_cut"], result["max_length"])))
    if result["rows"] != f"all of {result['split']}":
        rows.append(("rows", result["rows"]))
    if result["limit"] is not None:
        rows.append(("limit", f"a score of {result['limit']:,} rows, which metrics.json does not have"))
    if result.get("paper"):
        rows.append(("paper", _paper_text(result["paper"], result["scores"] or ())))
    texts = [("texts", f"{result['texts']}, for red score")] if result["texts"] else []
    return [*rows, ("predictions", result["predictions"]), *texts]


def _without_subtasks(scores: dict[str, Any]) -> dict[str, Any]:
    """The scores except those of single subtasks, such as accuracy.boolq, which have their own table."""
    return {name: value for name, value in scores.items() if "." not in name}


def suite_columns(result: dict[str, Any]) -> list[list[str]]:
    """The table of a suite's scores, heading first; empty if a judge has to score the answers."""
    if "columns" in result:
        heading = ["", "shots", "metric", "examples", "score"]
        cells = [
            [title, str(cell["shots"]), cell["metric"], f"{cell['examples']:,}", f"{cell['value'] * 100:.2f}"]
            for title, cell in result["columns"].items()
        ]
        averages = {"average": "average", "with ai2_arc": "average_with_ai2_arc"}
        return [heading, *cells, *([title, "", "", "", f"{result[key] * 100:.2f}"] for title, key in averages.items())]
    rows = [
        [name, "" if found["shots"] is None else str(found["shots"]), metric, f"{found['examples']:,}", f"{value:.4f}",
         f"± {found['errors'][metric]:.4f}" if metric in found["errors"] else ""]
        for name, found in result.get("tasks", {}).items()
        for metric, value in found["scores"].items()
    ]  # fmt: skip
    return [["", "shots", "metric", "examples", "score", "error"], *rows] if rows else []


def suite_rows(result: dict[str, Any]) -> list[tuple[str, str]]:
    """The results of a suite that its table does not show."""
    metrics = ("metrics", f"{result['folder']}/metrics.json")
    if "answers" not in result:
        limit = [] if result["limit"] is None else [("limit", f"{result['limit']:,} questions of each task")]
        return [("by", result["tool"]), *limit, metrics]
    unfinished = f", {result['unfinished']:,} answers cut off" if result["unfinished"] else ""
    return [
        ("answered", f"{result['questions']:,} questions{unfinished}"),
        ("template", result["template"].partition("\n")[0]),
        ("answers", result["answers"]),
        metrics,
    ]


def export_rows(result: dict[str, Any]) -> list[tuple[str, str]]:
    """The rows that `red export` shows."""
    done = "adapter" if result["format"] == "adapter" else f"{result['edited_modules']} edits folded into the weights"
    rows = [("exported", f"{result['output']} ({done})")]
    if result["remarks"]:
        rows.append(("note", result["remarks"].replace("`", "")))
    if result["ends_text"]:
        rows.append(("ends", result["ends_text"]))
    if result["largest_difference"] is not None:
        rows.append(
            (
                "checked",
                f"{result['examples']} {result['checked_on']}: logits differ by at most "
                f"{result['largest_difference']:.1e}, {result['equal_answers']:.2%} of answers equal",
            )
        )
        if result["dtype"] in ("float16", "bfloat16"):
            rows.append(("", f"folded weights are rounded to {result['dtype']}, which moves logits: --dtype float32"))
    if result["answer"] is not None:
        answer = result["answer"]
        ended = "ends" if answer["ended"] else "does not end, nor does the adapter's,"
        same = "as the adapter's" if answer["equal"] else "not as the adapter's: by rounding, or at the base's own end"
        rows.append(("", f"an answer of plain transformers {ended} after {answer['tokens']} tokens, {same}"))
    if (gguf := result["gguf"]) is not None:
        rows.append(("gguf", f"{gguf['tensors']} tensors, read back equal; tokenizer {gguf['tokenizer']}"))
        rows += [("note", gguf["remark"])] * bool(gguf["remark"])
    if result["pushed_to"]:
        rows.append(("uploaded", result["pushed_to"]))
    return rows


def gguf_rows(result: dict[str, Any]) -> list[tuple[str, str]]:
    """The rows that `red convert` shows of a GGUF file."""
    return [
        ("base", result["output"]),
        ("", f"{result['architecture']}, {result['parameters']:,} parameters, {result['dtype']}"),
    ]


def conversion_rows(result: dict[str, Any]) -> list[tuple[str, str]]:
    """The rows that `red convert` shows."""
    red = result["red"]
    positions = red["target_modules"] or f"{', '.join(red['positions'])}, layers {red['layers']}"
    head = f" + {result['head_parameters']:,} head" if result["head_parameters"] else ""
    return [
        ("adapter", result["output"]),
        ("edited", f"{result['modules']} modules: {positions}; {' and '.join(red['components'])}"),
        ("parameters", f"{result['edited_parameters']:,} edited{head}"),
        *(("warning", text) for text in result["warnings"]),
    ]


def score_rows(result: dict[str, Any]) -> list[tuple[str, str]]:
    """The table that `red score` shows: fractions with four decimals, like those of the official scripts."""
    inputs = result["inputs"]
    rows = [
        ("predictions", f"{inputs:,}  {result['predictions']}"),
        ("references", f"{result['reference_texts']:,} for {inputs:,} inputs  {result['references']}"),
    ]
    for name, value in result["scores"].items():
        rows.append((name, "not computed" if value is None else f"{value:.4f}"))
    return [*rows, *(("", reason) for reason in dict.fromkeys(result["not_computed"].values()))]


def _paper_suffix(paper: dict[str, Any] | None, metric: str) -> str:
    """The paper's figure for one of several metrics in a result table, shown after ours; empty if there is none."""
    if paper is None or not isinstance(paper["score"], dict) or metric not in paper["score"]:
        return ""
    return f" (paper: {_figure_text(paper, metric)})"


def _paper_text(paper: dict[str, Any], shown: Container[str]) -> str:
    """The paper's figures in a result table, except for the metrics in `shown`, and their source."""
    score = paper["score"]
    figures = (
        ", ".join(f"{name} {_figure_text(paper, name)}" for name in score if name not in shown)
        if isinstance(score, dict)
        else _figure_text(paper, "")
    )
    note = f"; {paper['note']}" if paper.get("note") else ""
    return f"{figures}{'  ' if figures else ''}{paper['model']}, Table {paper['table']}{note}"


def _figure_text(paper: dict[str, Any], metric: str) -> str:
    """The text of a paper's figure in the result tables of runs and evaluations, with its deviation."""
    from red_cli.recipe.paper import Paper

    figure = Paper.model_validate(paper).figure(metric)
    assert figure is not None
    return plus_minus(str(figure.score), "" if figure.std is None else str(figure.std))


def commonsense_table(scores: Mapping[str, float]) -> list[list[str]]:
    """The commonsense preset's scores as a table: a row for each scoring, a column for each task, heading first.

    It is empty if `scores` are not of several tasks. The average is over the tasks with a score.
    """
    rows, count = [], 0
    for name, way in _WAYS.items():
        shares = {task: scores.get(f"{name}.{task}") for task in COMMONSENSE}
        if there := [share for share in shares.values() if share is not None]:
            count = len(there)
            cells = [_MISSING if share is None else format_score(name, share) for share in shares.values()]
            rows.append([way, *cells, format_score(name, scores[name])])
    average = "avg" if count == len(COMMONSENSE) else f"avg of {count}"
    return [["", *(facts.title for facts in COMMONSENSE.values()), average], *rows] if rows else []
