"""Model cards: what was trained, its scores, and how to load it. They contain no local paths."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from red_cli.edit.adapter_config import AdapterConfig
from red_cli.edit.config import RedConfig
from red_cli.errors import UserError
from red_cli.escape import markdown_block, markdown_code, markdown_text, terminal_line
from red_cli.export.python_use import Input, adapter_use
from red_cli.export.shared_recipe import is_local, shared_name, shared_recipe
from red_cli.recipe.methods import METHODS
from red_cli.recipe.metric_names import stored_title
from red_cli.recipe.score_format import format_score
from red_cli.recipe.yaml_file import dump


@dataclass(frozen=True)
class Use:
    """How a model's card says to use it: commands for a terminal, and lines of Python; either may be empty."""

    commands: Sequence[str] = ()
    python: Sequence[str] = ()


def run_card(name: str, recipe: dict[str, Any], metrics: dict[str, Any], use: Use) -> str:
    """The card of a run folder, made from its resolved recipe and metrics."""
    method, base = METHODS[recipe["method"]], recipe["model"]["name_or_path"]
    if method.edits:
        how = _edits(RedConfig.model_validate(recipe["red"]))
    else:
        how = f"{method.title}: what trains is {method.what_trains}."
    text = "In this folder; FILE is a table of new rows"
    ending = f"## Use\n\n{text}:\n\n{_block(use.commands, 'bash')}" if use.commands else ""
    if use.python:
        ending += f"\nThe exported model, in plain transformers:\n\n{_block(use.python, 'python')}"
    return _card(name, base, how, recipe, metrics, ending)


def merged_card(
    name: str,
    adapter: AdapterConfig,
    recipe: dict[str, Any] | None,
    metrics: dict[str, Any] | None,
    checked: dict[str, Any],
    remarks: str,
    with_code: bool,
    use: Use,
) -> str:
    """The card of an exported model.

    Args:
        recipe, metrics: None if the adapter's recipe or run is not available.
        checked: the result of the comparison with the adapter ("largest_difference", "examples", "checked_on").
        remarks: changes other than folding.
        with_code: whether the model has its own modelling file.
        use: how it is used, in the folder that holds its own.
    """
    check = "The fold was not checked against the adapter."
    if checked["largest_difference"] is not None:
        check = (
            f"Checked on {checked['examples']} {checked['checked_on']}: logits differ from the adapter's by at most "
            f"{checked['largest_difference']:.1e}, {checked['equal_answers']:.2%} of the answers are equal."
        )
    kind = "; without its modelling file the biases would be lost" if with_code else ": an ordinary model"
    text = f"The edits are folded into the base's weights{kind}. {check}\n{remarks}".strip()
    base = adapter.base_model_name_or_path
    blocks = [_block(use.python, "python")] * bool(use.python) + [_block(use.commands, "bash")] * bool(use.commands)
    ending = f"{text}\n\n## Use\n\n" + "\n".join(blocks)
    return _card(name, base, _edits(adapter.red), recipe, metrics, ending)


def adapter_card(
    name: str, adapter: AdapterConfig, recipe: dict[str, Any] | None, metrics: dict[str, Any] | None, given: Input
) -> str:
    """The card of an adapter that is shared without its base; `given` is an input of its task."""
    base = adapter.base_model_name_or_path
    use = adapter_use(name, shared_name(base), adapter, given)
    return _card(name, base, _edits(adapter.red), recipe, metrics, f"## Use\n\n{_block(use, 'python')}")


def _block(lines: Sequence[str], language: str) -> str:
    """A code block of a card."""
    return markdown_block("".join(f"{line}\n" for line in lines), language)


def _card(
    name: str,
    base: str,
    how: str,
    recipe: dict[str, Any] | None,
    metrics: dict[str, Any] | None,
    ending: str,
) -> str:
    """The text of a model card: front matter, title, base, figures, usage and recipe."""
    on_hub = {} if is_local(base) else {"base_model": terminal_line(base)}
    front = dump({"library_name": "transformers", **on_hub, "tags": ["red"]})
    task = ""
    if recipe is not None:
        task = " for " + " ".join(str(recipe["task"][key]) for key in ("name", "subset") if key in recipe["task"])
    written_recipe = ""
    if recipe is not None:
        written_recipe = f"\n## Recipe\n\n{markdown_block(dump(shared_recipe(recipe)), 'yaml')}"
    return (
        f"---\n{front}---\n\n# {markdown_text(name)}\n\n"
        f"{markdown_code(shared_name(base))} fine-tuned{task} by {how}\n\n"
        f"{'' if metrics is None else _checked_figures(metrics)}"
        f"{ending}{written_recipe}"
    )


def _edits(red: RedConfig) -> str:
    """The edits in words for the model card."""
    positions = red.positions if isinstance(red.positions, str) else ", ".join(red.positions)
    edited = positions if red.target_modules is None else markdown_code(red.target_modules)
    formulas = {("scale", "bias"): "scale * h + bias", ("scale",): "scale * h", ("bias",): "h + bias"}
    formula = formulas[tuple(part for part in ("scale", "bias") if part in red.components)]
    where = f"{edited}; layers {markdown_text(str(red.layers))}"
    return (
        "Representation EDiting (RED, arXiv 2402.15179):\n"
        f"the base is frozen; the output h of each edited module ({where}) becomes {formula}."
    )


def _checked_figures(metrics: dict[str, Any]) -> str:
    """The checked figures of a run for the model card."""
    try:
        return _figures(metrics)
    except (KeyError, TypeError, ValueError, AttributeError):
        raise UserError(
            "file-damaged", "metrics.json of the run is damaged", hint="Copy it again, or delete it."
        ) from None


def _figures(metrics: dict[str, Any]) -> str:
    """The tables of a model card: parameter counts, the scores by split, and the training's seed and steps."""
    parameters, training = metrics["parameters"], metrics["training"]
    word = METHODS[metrics.get("method", "red")].word  # runs of version 0.1 do not record it
    scores = "\n".join(
        f"| {markdown_text(split)} | {markdown_text(stored_title(metrics, metric))} | {format_score(metric, value)} |"
        for split, values in metrics["splits"].items()
        for metric, value in values.items()
        if metric != "examples"
    )
    return (
        f"| parameters | |\n|---|---|\n"
        f"| {word} | {parameters['edited']:,} ({parameters['share']:.4%} of the base) |\n"
        f"| head | {parameters['head']:,} |\n| base | {parameters['base']:,} |\n\n"
        f"| split | metric | score (shares and coefficients x100) |\n|---|---|---|\n{scores}\n\n"
        f"One run, seed {training['seed']:d}, {training['steps']:d} steps in {training['seconds']:.0f} s; "
        f"the best evaluation was kept.{_rows_used(metrics.get('scoring'))}\n\n"
    )


def _rows_used(scoring: dict[str, Any] | None) -> str:
    """The rows on the card: those that selected the best evaluation, and those scored."""
    if scoring is None:
        return ""
    selection, scored = scoring["selection"], scoring["scored"]
    ending = "the score is that of the same rows" if selection == scored else f"scored: {markdown_code(scored['rows'])}"
    return f" Chosen by {selection['examples']:,} rows: {markdown_code(selection['rows'])}; {ending}."
