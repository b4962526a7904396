"""What a finished run shows besides its scores: the untuned score, classes, errors, and notes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from red_cli.inference.errors_file import write_errors
from red_cli.inference.findings import Findings, find
from red_cli.recipe.shipped_rates import rate_advice
from red_cli.runs.folder import RunFolder
from red_cli.runs.result_notes import Facts, SplitFacts, notes_json, notes_on
from red_cli.train.session import Session
from red_cli.train.untuned import untuned_json


def run_findings(session: Session, scores: Mapping[str, Mapping[str, Any]], unsearched: str | None) -> dict[str, Any]:
    """The parts of metrics.json that say how far to trust the scores; errors.csv is written. Rank 0 alone has them.

    The predictions are read from their files, as after a resume those of the best evaluation are nowhere else.

    Args:
        scores: split -> its examples and scores.
        unsearched: why the learning rate may not fit the base; None if it does.
    """
    untuned = untuned_json(session)
    if not session.processes.main:
        return {"untuned": untuned, "notes": []}
    found = [each for split, values in scores.items() if (each := _of_split(session, split, values)) is not None]
    for each in found:
        if each.errors is not None:
            write_errors(session.folder.errors, each.facts.split, each.errors)
    content: dict[str, Any] = {"untuned": untuned}
    for each in found:
        for name, part in each.to_json().items():
            content[name] = {**content.get(name, {}), **part}
    metric = session.prepared.task.metric
    train = session.prepared.encoded["train"]
    facts = Facts(
        metric=metric,
        max_length=session.prepared.base.max_length,
        splits=[each.facts for each in found],
        train=SplitFacts("train", len(train), truncated=train.truncated, ends_cut=train.ends_cut),
        evaluations=evaluations(session.folder, f"{session.prepared.task.validation_splits[0]}_{metric}"),
        untuned=None if untuned is None else untuned.get(metric),
        unsearched=unsearched,
        rate_advice=rate_advice(session.recipe),
    )
    return {**content, "notes": notes_json(notes_on(facts))}


def evaluations(folder: RunFolder, key: str) -> list[float]:
    """The scores of a run's evaluations, which findings look at, in order."""
    values = []
    with suppress(OSError):
        for line in folder.log.read_text(encoding="utf-8", errors="replace").splitlines():
            with suppress(ValueError, TypeError, AttributeError):
                if (value := json.loads(line).get(key)) is not None:
                    values.append(float(value))
    return values


def _of_split(session: Session, split: str, values: Mapping[str, Any]) -> Findings | None:
    """What a split shows; None if the file of its predictions is not that of its rows any more."""
    prepared = session.prepared
    predictions = session.folder.read_predictions(split)
    if len(predictions) != values["examples"]:
        return None
    scores = {name: value for name, value in values.items() if name != "examples"}
    return find(
        prepared.task,
        prepared.encoder,
        prepared.label_names,
        prepared.scored_rows[split],
        prepared.encoded[split],
        predictions,
        scores,
        split,
    )
