"""Plans, runs, evaluations and exports as rows of label and value, or as tables."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from red_cli.errors import one_line, shown
from red_cli.formatting import byte_size, duration, plus_minus
from red_cli.recipe.metrics import format_score, format_scores

if TYPE_CHECKING:
    from red_cli.plan.devices import DeviceOption
    from red_cli.plan.plan import PlanSummary

_SHOWN_CLASSES = 10
# The note on scored rows that also selected the best evaluation
_CHOSE = {"all": ", which chose the best step", "some": ", some of which chose the best step", "none": ""}


def plan_rows(plan: PlanSummary, folder: str | None = None) -> list[tuple[str, str]]:
    """The rows of a plan, for `red check` and the start of a run."""
    counts, train = plan.counts, plan.lengths["train"]
    splits = ", ".join(f"{split} {lengths.rows:,}" for split, lengths in plan.lengths.items())
    cut = "".join(
        f"; {'' if split == 'train' else f'{split} '}{_cut_text(lengths.truncated, lengths.ends_cut, plan.max_length)}"
        for split, lengths in plan.lengths.items()
        if lengths.truncated
    )
    micro = f" ({plan.micro_batch_size} at once)" if plan.micro_batch_size else ""
    rows = [
        ("task", f"{plan.task}, scored by {plan.metric}"),
        ("base", plan.base),
        ("", f"{plan.architecture}, {counts.base:,} parameters"),
        ("method", f"{plan.method}: {plan.trains}"),
        *([("changed", f"{len(plan.edited_modules)} modules, {plan.edited_pattern}")] if plan.edited_modules else []),
        ("parameters", _counts_text(plan.method, counts.edited, counts.share, counts.head)),
        ("rows", splits),
        *_left_out_rows(plan),
        *([("classes", _classes_text(plan.classes["train"]))] if "train" in plan.classes else []),
        *_scoring_rows(asdict(plan.scoring)),
        ("tokens a row", f"median {train.median}, 95% up to {train.percentile_95}, longest {train.longest}{cut}"),
        *([("encoded rows", plan.encoded_rows)] if plan.encoded_rows else []),
        ("steps", f"{plan.total_steps:,} of {plan.batch_size} rows{micro}, {plan.warmup_steps} to warm up"),
        ("learning rate", _rate_text(plan)),
        *([("runs on", _strategy_text(plan))] if plan.processes > 1 or plan.strategy.strategy != "single" else []),
    ]
    if plan.memory is not None:
        rows.append(("memory", f"about {byte_size(plan.memory.total)} with {plan.memory.rows} longest rows at once"))
    if plan.export_obstacle is not None:
        ways = "as adapter, with --format code, or with red.components=[scale]"
        rows.append(("export", f"{ways}: {plan.export_obstacle}"))
    if plan.paper_mismatch is not None:
        rows.append(("paper", f"its figure is not shown: {plan.paper_mismatch}"))
    found = [line for split, tokens in plan.special_tokens.items() for line in tokens.lines(split)]
    rows += [("note", note) for note in (*found, *plan.notes)]
    if folder is not None:
        rows.append(("run folder", folder))
    return rows


def _classes_text(counts: Mapping[str, int]) -> str:
    """The row of a result table with the classes of the training split and their numbers of rows."""

    def text(name: str) -> str:
        return f"{one_line(name) if name == name.strip() else shown(name)} {counts[name]:,}"

    if len(counts) <= _SHOWN_CLASSES:
        return ", ".join(map(text, counts))
    ordered = sorted(counts, key=lambda name: -counts[name])
    return f"{', '.join(map(text, ordered[: _SHOWN_CLASSES - 1]))}, … {text(ordered[-1])}; {len(counts):,} in all"


def _left_out_rows(plan: PlanSummary) -> list[tuple[str, str]]:
    """The rows of a result table with the number of rows left out of each split, by reason."""
    splits = []
    for split, lengths in plan.lengths.items():
        reasons = ", ".join(f"{count:,} with {reason}" for reason, count in lengths.left_out.items())
        if reasons:
            total = lengths.rows + sum(lengths.left_out.values())
            splits.append(("", f"of {total:,} {split} rows left out: {reasons}"))
    return splits


def _cut_text(truncated: int, ends_cut: int, longest: int) -> str:
    """The number of truncated rows, and of those among them that lost their end token."""
    return f"{truncated:,} cut at {longest:,}" + (f", {ends_cut:,} without their end" if ends_cut else "")


def _counts_text(method: str, part: int, share: float, head: int) -> str:
    """The trained parameters in a result table: those of the method, their share of the base, and the head."""
    if part == 0:
        return f"{head:,} head"
    return f"{part:,} {_word_of(method)} ({share:.3%} of the base) + {head:,} head"


def _word_of(method: str) -> str:
    """The word in a result table for a method's parameters; the method is given by its name or its title."""
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
        return f"{plan.learning_rate:g}"
    if not search.sweeps:
        return f"auto: {search.usual:g}, because the run is too short for a search"
    sweeps = "a sweep" if search.sweeps == 1 else f"{search.sweeps} sweeps"
    return f"auto: {sweeps} from {search.lowest:g} to {search.highest:g}, {search.total} steps before the run"


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
                rows.append((name, f"{format_score(name, value)}{_paper_suffix(paper, name)}  {count}"))
    if paper:
        shown = {name for scores in result["splits"].values() for name in scores}
        rows.append(("paper", _paper_text(paper, shown)))
    rows += _scoring_rows(result["scoring"])
    best, parameters, training = result["best"], result["parameters"], result["training"]
    speed = training["examples_per_second"]
    rows += [
        ("best at", f"step {best['step']:,} of {training['steps']:,} (epoch {best['epoch']:.3g})"),
        ("parameters", _counts_text(result["method"], parameters["edited"], parameters["share"], parameters["head"])),
        ("learning rate", f"{result['learning_rate']:g}{_found_text(result['learning_rate_search'])}"),
        ("time", f"{duration(training['seconds'])} of training, {speed:,.0f} rows/s on {training['device']}"),
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
                rows.append((name, f"{text}  {count}; by seed  {values}"))
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
            (name, f"{format_score(name, value)}{_paper_suffix(paper, name)}  {count}")
            for name, value in _without_subtasks(result["scores"]).items()
        ]
        rows += [(name, f"not computed: {reason}") for name, reason in result["not_computed"].items()]
    if result["truncated"]:
        rows.append(("rows cut", _cut_text(result["truncated"], result["ends_cut"], result["max_length"])))
    if result["rows"] != f"all of {result['split']}":
        rows.append(("rows", result["rows"]))
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


def _scoring_rows(scoring: dict[str, Any]) -> list[tuple[str, str]]:
    """The rows that select the best evaluation and the rows that are scored, if they differ."""
    if scoring["selection"] == scoring["scored"]:
        return []
    return [("chosen by", scoring["selection"]["rows"]), ("scored", scoring["scored"]["rows"])]


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
    if result["answer"] is not None:
        answer = result["answer"]
        ended = "ends" if answer["ended"] else "does not end, nor does the adapter's,"
        same = "as the adapter's" if answer["equal"] else "not as the adapter's: by rounding, or at the base's own end"
        rows.append(("", f"an answer of plain transformers {ended} after {answer['tokens']} tokens, {same}"))
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
    """The paper's figure for a metric in a table of results, with its deviation."""
    from red_cli.recipe.paper import Paper

    figure = Paper.model_validate(paper).figure(metric)
    assert figure is not None
    return plus_minus(str(figure.score), "" if figure.std is None else str(figure.std))
