"""Model cards: what was trained, on what, how well, and how to load it."""

from __future__ import annotations

from typing import Any

from red_cli.recipe.yaml_file import dump
from red_cli.tasks.metrics import written


def run_card(name: str, recipe: dict[str, Any], metrics: dict[str, Any]) -> str:
    """The card of a run folder, from its resolved recipe and metrics."""
    use = (
        "red eval .                      # score it again\n"
        "red export . --output merged    # an ordinary model for plain transformers\n"
    )
    return _card(name, recipe, metrics, f"## Use\n\n```bash\n{use}```\n")


def merged_card(
    name: str, recipe: dict[str, Any], metrics: dict[str, Any] | None, difference: float | None, auto_class: str
) -> str:
    """The card of an exported model; `difference` is the largest one of logits from the adapter's, `auto_class`
    the class of transformers that loads it.

    `metrics` None (an adapter whose run is not at hand) leaves the figures out.
    """
    check = (
        "The fold was not checked against the adapter.\n"
        if difference is None
        else f"Checked on examples of the task: logits differ from the adapter's by at most {difference:.1e}.\n"
    )
    use = (
        f"from transformers import {auto_class}, AutoTokenizer\n\n"
        f'model = {auto_class}.from_pretrained("{name}")\n'
        f'tokenizer = AutoTokenizer.from_pretrained("{name}")\n'
    )
    text = f"The edits are folded into the base's weights: an ordinary model of its architecture. {check}"
    return _card(name, recipe, metrics, f"{text}\n## Use\n\n```python\n{use}```\n")


def _card(name: str, recipe: dict[str, Any], metrics: dict[str, Any] | None, ending: str) -> str:
    base, red = recipe["model"]["name_or_path"], recipe["red"]
    front = dump({"library_name": "transformers", "base_model": base, "tags": ["red"]})
    edited = red.get("target_modules") or ", ".join(red["positions"])
    task = " ".join(str(recipe["task"][key]) for key in ("name", "subset") if key in recipe["task"])
    return (
        f"---\n{front}---\n\n# {name}\n\n"
        f"`{base}` fine-tuned for {task} by Representation EDiting (RED, arXiv 2402.15179):\n"
        f"the base is frozen; the output h of each edited module ({edited}; layers {red['layers']}) becomes "
        f"scale * h + bias.\n\n"
        f"{'' if metrics is None else _figures(metrics)}"
        f"{ending}\n## Recipe\n\n```yaml\n{dump(recipe)}```\n"
    )


def _figures(metrics: dict[str, Any]) -> str:
    parameters, training = metrics["parameters"], metrics["training"]
    scores = "\n".join(
        f"| {split} | {metric} | {written(metric, value)} |"
        for split, values in metrics["splits"].items()
        for metric, value in values.items()
        if metric != "examples"
    )
    return (
        f"| parameters | |\n|---|---|\n"
        f"| edited | {parameters['edited']:,} ({parameters['share']:.4%} of the base) |\n"
        f"| head | {parameters['head']:,} |\n| base, frozen | {parameters['base']:,} |\n\n"
        f"| split | metric | score (shares and coefficients x100) |\n|---|---|---|\n{scores}\n\n"
        f"One run, seed {training['seed']}, {training['steps']} steps in {training['seconds']:.0f} s; "
        f"the best evaluation on the validation split was kept.\n\n"
    )
