"""Model cards: what was trained, on what, how well, and how to load it."""

from __future__ import annotations

from typing import Any

from red_cli.edit.adapter_config import AdapterConfig
from red_cli.edit.config import RedConfig
from red_cli.export.code import auto_class
from red_cli.methods.description import TITLES, WHAT_TRAINS
from red_cli.recipe.yaml_file import dump
from red_cli.tasks.metrics import written


def run_card(name: str, recipe: dict[str, Any], metrics: dict[str, Any]) -> str:
    """The card of a run folder, from its resolved recipe and metrics."""
    use = "red eval .                      # score it again\n"
    method, base = recipe["method"], recipe["model"]["name_or_path"]
    if method == "red":
        use += "red export . --output merged    # an ordinary model for plain transformers\n"
        how = _edits(RedConfig.model_validate(recipe["red"]))
    else:
        how = f"{TITLES[method]}: what trains is {WHAT_TRAINS[method]}."
    return _card(name, base, how, recipe, metrics, f"## Use\n\n```bash\n{use}```\n")


def merged_card(
    name: str,
    adapter: AdapterConfig,
    recipe: dict[str, Any] | None,
    metrics: dict[str, Any] | None,
    checked: dict[str, Any],
    architecture: str,
    remarks: str,
    with_code: bool,
) -> str:
    """The card of an exported model.

    Args:
        recipe, metrics: None for an adapter whose recipe or run is not at hand.
        checked: what the comparison with the adapter found ("largest_difference", "examples", "checked_on").
        remarks: what was done beside folding.
        with_code: whether the model has a modelling file of its own.
    """
    check = "The fold was not checked against the adapter."
    if checked["largest_difference"] is not None:
        check = (
            f"Checked on {checked['examples']} {checked['checked_on']}: logits differ from the adapter's by at most "
            f"{checked['largest_difference']:.1e}, {checked['equal_answers']:.2%} of the answers are equal."
        )
    loader = auto_class(architecture)
    option = ", trust_remote_code=True" if with_code else ""
    use = (
        f"from transformers import {loader}, AutoTokenizer\n\n"
        f'model = {loader}.from_pretrained("{name}"{option})\n'
        f'tokenizer = AutoTokenizer.from_pretrained("{name}")\n'
    )
    kind = "; without its modelling file the biases would be lost" if with_code else ": an ordinary model"
    text = f"The edits are folded into the base's weights{kind}. {check}\n{remarks}".strip()
    base = adapter.base_model_name_or_path
    return _card(name, base, _edits(adapter.red), recipe, metrics, f"{text}\n\n## Use\n\n```python\n{use}```\n")


def adapter_card(
    name: str, adapter: AdapterConfig, recipe: dict[str, Any] | None, metrics: dict[str, Any] | None
) -> str:
    """The card of an adapter that is shared alone."""
    kind = adapter.architecture or "AutoModel"
    revision = f', revision="{adapter.revision}"' if adapter.revision else ""
    use = (
        f"import red_cli\nfrom transformers import {kind}\n\n"
        f'model = {kind}.from_pretrained("{adapter.base_model_name_or_path}"{revision})\n'
        f'red_cli.load_adapter(model, "{name}")\n'
    )
    return _card(
        name, adapter.base_model_name_or_path, _edits(adapter.red), recipe, metrics, f"## Use\n\n```python\n{use}```\n"
    )


def _card(
    name: str,
    base: str,
    how: str,
    recipe: dict[str, Any] | None,
    metrics: dict[str, Any] | None,
    ending: str,
) -> str:
    front = dump({"library_name": "transformers", "base_model": base, "tags": ["red"]})
    task = ""
    if recipe is not None:
        task = " for " + " ".join(str(recipe["task"][key]) for key in ("name", "subset") if key in recipe["task"])
    return (
        f"---\n{front}---\n\n# {name}\n\n"
        f"`{base}` fine-tuned{task} by {how}\n\n"
        f"{'' if metrics is None else _figures(metrics)}"
        f"{ending}" + ("" if recipe is None else f"\n## Recipe\n\n```yaml\n{dump(recipe)}```\n")
    )


def _edits(red: RedConfig) -> str:
    edited = red.target_modules or (red.positions if isinstance(red.positions, str) else ", ".join(red.positions))
    learnt = {("scale", "bias"): "scale * h + bias", ("scale",): "scale * h", ("bias",): "h + bias"}
    formula = learnt[tuple(part for part in ("scale", "bias") if part in red.components)]
    return (
        "Representation EDiting (RED, arXiv 2402.15179):\n"
        f"the base is frozen; the output h of each edited module ({edited}; layers {red.layers}) becomes {formula}."
    )


def _figures(metrics: dict[str, Any]) -> str:
    parameters, training = metrics["parameters"], metrics["training"]
    word = "edited" if metrics.get("method", "red") == "red" else "trained"  # runs of version 0.1 do not say
    scores = "\n".join(
        f"| {split} | {metric} | {written(metric, value)} |"
        for split, values in metrics["splits"].items()
        for metric, value in values.items()
        if metric != "examples"
    )
    return (
        f"| parameters | |\n|---|---|\n"
        f"| {word} | {parameters['edited']:,} ({parameters['share']:.4%} of the base) |\n"
        f"| head | {parameters['head']:,} |\n| base | {parameters['base']:,} |\n\n"
        f"| split | metric | score (shares and coefficients x100) |\n|---|---|---|\n{scores}\n\n"
        f"One run, seed {training['seed']}, {training['steps']} steps in {training['seconds']:.0f} s; "
        f"the best evaluation was kept.{_rows_used(metrics.get('scoring'))}\n\n"
    )


def _rows_used(scoring: dict[str, Any] | None) -> str:
    """Which rows chose and which were scored; runs of version 0.1 do not say."""
    if scoring is None:
        return ""
    selection, scored = scoring["selection"], scoring["scored"]
    ending = "the score is that of the same rows" if selection == scored else f"scored: {scored['rows']}"
    return f" Chosen by {selection['examples']:,} rows: {selection['rows']}; {ending}."
