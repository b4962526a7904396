"""The untuned score: an evaluation of the selection split before the first step, kept in a cache on the user's disk."""

from __future__ import annotations

import hashlib
import json
import math
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import FiniteFloat, TypeAdapter, ValidationError

import red_cli
from red_cli.base_model.digest import take_digest
from red_cli.base_model.prepare import uses_bf16
from red_cli.distributed.device import forked_generators
from red_cli.inference.predict import predict
from red_cli.recipe.schema import Recipe
from red_cli.tasks.base import Encoded
from red_cli.tasks.data.disk_cache import Damaged, DiskCache
from red_cli.tasks.encoded.fingerprint import code_digest
from red_cli.tasks.text.encoded_texts import EncodedTexts
from red_cli.tasks.text.task import OF_LOSSES
from red_cli.train.session import Session

MOST_GENERATED = 200  # rows: an untuned model rarely ends its texts, so that each takes the most tokens
_ROOMS = ("inference", "recipe", "tasks")  # whose code makes scores of a model
_LIBRARIES = ("torch", "transformers")


@dataclass(frozen=True)
class UntunedScores:
    """The content of a file of the cache: the scores, and the number of rows that they are of."""

    scores: dict[str, FiniteFloat]
    rows: int


def score_untuned(session: Session) -> None:
    """Score the selection split with the untuned model, at the start of a run, into the session's state.

    The score is that of an earlier run with the same base, rows and settings if the cache has it. A resumed run has it
    from its checkpoint. A run that starts from another one's parameters has none. No random number of the training is
    drawn.
    """
    state, processes = session.state, session.processes
    recipe = session.recipe
    if not recipe.eval.untuned or recipe.train.init_from is not None or state.step > 0 or state.untuned_rows:
        return
    key = _key(session) if processes.main else None
    found = processes.broadcast(None if key is None else _read(key))
    if found is None:
        found = _score(session)
        if key is not None:
            _write(key, found)
    state.untuned_scores, state.untuned_rows = found.scores, found.rows


def untuned_json(session: Session) -> dict[str, Any] | None:
    """The untuned score as metrics.json has it; None if it is not known."""
    state, split = session.state, session.prepared.task.validation_splits[0]
    if not state.untuned_rows:
        return None
    return {"split": split, "examples": state.untuned_rows, **state.untuned_scores}


def _score(session: Session) -> UntunedScores:
    """Evaluate the untuned model on the selection split, or on some of its rows where texts are generated."""
    prepared, state = session.prepared, session.state
    session.listener.status("scoring the untuned model")
    encoded = _scored_rows(prepared.encoded[prepared.task.validation_splits[0]], prepared.task.metric)
    with forked_generators(session.processes.device):
        predictions = predict(
            prepared.encoder,
            encoded,
            session.runtime,
            micro_batch_size=state.micro_batch_size,
            final=False,
            stop=session.stop,
        )
    scores = prepared.task.score(predictions, prepared.label_names)
    return UntunedScores({name: value for name, value in scores.items() if math.isfinite(value)}, len(encoded))


def _scored_rows(encoded: Encoded, metric: str) -> Encoded:
    """All rows, or evenly spread ones where texts are generated for more than MOST_GENERATED."""
    if not isinstance(encoded, EncodedTexts) or metric in OF_LOSSES or len(encoded) <= MOST_GENERATED:
        return encoded
    return encoded.take(np.linspace(0, len(encoded) - 1, MOST_GENERATED).round().astype(int).tolist())


def _key(session: Session) -> str | None:
    """The fingerprint of all that decides the untuned score; None if the content of the base is not known."""
    recipe, task = session.recipe, session.prepared.task
    # Method `full` records no weights. The digest of edited tensors differs between methods, so it takes no part.
    digest = session.base_record.digest
    if digest is None or digest.weights is None:
        digest = take_digest(recipe.model, "head", []).digest
    if digest is None or digest.weights is None:
        return None
    about = {
        "versions": [red_cli.__version__, *(version(name) for name in _LIBRARIES)],
        "code": code_digest(_ROOMS),
        "base": [digest.config, digest.weights, digest.tokenizer],
        "model": recipe.model.model_dump(exclude={"name_or_path", "revision"}),
        "bf16": uses_bf16(recipe.train),
        "device": session.processes.device.type,
        "seed": recipe.train.seed if session.trained.head or _samples(recipe) else None,
        "task": recipe.task.model_dump(),
        "metrics": [task.metric, *task.metrics],
        "decoding": recipe.eval.generation and recipe.eval.generation.model_dump(),
        "rows": session.inputs.splits[task.validation_splits[0]].sha256,
        "labels": session.inputs.label_names,
    }
    return hashlib.sha256(json.dumps(about, sort_keys=True, default=repr).encode()).hexdigest()[:40]


def _samples(recipe: Recipe) -> bool:
    """Whether the untuned model's texts depend on the seed."""
    return recipe.eval.generation is not None and recipe.eval.generation.do_sample


def _cache() -> DiskCache:
    """The cache of untuned scores."""
    return DiskCache.of_user("untuned", ".json")


def _read(key: str) -> UntunedScores | None:
    """The scores in the cache; None if there are none, or there is no cache."""
    with suppress(OSError, Damaged, ValidationError):
        cache = _cache()
        stored = cache.open(key) if cache.limit else None
        return None if stored is None else TypeAdapter(UntunedScores).validate_json(bytes(stored))
    return None


def _write(key: str, found: UntunedScores) -> None:
    """Keep scores in the cache, if there is one."""

    def write(path: Path) -> None:
        path.write_bytes(TypeAdapter(UntunedScores).dump_json(found))

    with suppress(OSError):
        cache = _cache()
        if cache.limit:
            cache.write(key, write)
