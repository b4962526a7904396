"""Score a run, an adapter or an exported model on a split."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from red_cli.edit.adapter import read_adapter_config
from red_cli.errors import RunFailed
from red_cli.recipe.schema import Recipe
from red_cli.run.base_model import longest_sequence, to_device
from red_cli.run.events import Listener
from red_cli.run.folder import RunFolder
from red_cli.run.generate import Decoder, Partial
from red_cli.run.memory import out_of_memory
from red_cli.run.precision import uses_bf16
from red_cli.run.target import Target, load_model, open_task
from red_cli.tasks.base import Encoded, Generated, Prediction, Task
from red_cli.tasks.data import Rows
from red_cli.tasks.tokens import Ends

_TRAINING_TO_EVALUATION = 2  # without activations to keep, twice as many rows fit


@dataclass(frozen=True)
class Answering:
    """How a model is to answer splits.

    Attributes:
        batch_size: rows at once in a forward pass.
        decoder: generates texts, in tasks that do.
        context: the most tokens that the base takes at once.
        tick: told (rows done, rows in all) after each batch of a forward pass.
        note: told what the user should see.
    """

    model: PreTrainedModel
    batch_size: int
    decoder: Decoder | None
    context: int
    tick: Callable[[int, int], None]
    note: Callable[[str], None]


def predict(task: Task, encoded: Encoded, answering: Answering, final: bool) -> list[Prediction]:
    """The model's answer to every row, in the rows' order; `final` asks for all that can be said."""
    return task.answer(encoded, _Passes(task, encoded, answering), final)


@dataclass(frozen=True)
class _Passes:
    """What tasks see of a model: `tasks.base.Passes`."""

    task: Task
    encoded: Encoded
    answering: Answering

    @property
    def context(self) -> int:
        return self.answering.context

    def generate(self, prompts: Sequence[Sequence[int]], ends: Ends, max_new_tokens: int) -> list[Generated]:
        decoder = self.answering.decoder
        assert decoder is not None
        return decoder.generate(prompts, ends, max_new_tokens)

    def note(self, text: str) -> None:
        self.answering.note(text)

    def forward(self, predict: Callable[[nn.Module, Any], list[Prediction]]) -> list[Prediction]:
        """What `predict` says of batches, for all rows in their order.

        Rows go through longest first, so that memory runs out at once or never; then the batch size is halved. Of each
        batch only the answers are kept.
        """
        model, encoded, batch_size = self.answering.model, self.encoded, self.answering.batch_size
        order = np.argsort(-encoded.lengths, kind="stable")
        answers: list[Prediction | None] = [None] * len(encoded)
        was_training = model.training
        model.eval()
        done = 0
        try:
            while done < len(order):
                rows = order[done : done + batch_size]
                try:
                    with torch.inference_mode():
                        predictions = predict(model, self.task.collate(encoded, rows).to(model.device))
                except RuntimeError as error:
                    if not out_of_memory(error) or batch_size == 1:
                        raise
                    batch_size = -(-batch_size // 2)
                    continue
                for row, answer in zip(rows.tolist(), predictions, strict=True):
                    answers[row] = answer
                done += len(rows)
                self.answering.tick(done, len(order))
        finally:
            model.train(was_training)
        return [answer for answer in answers if answer is not None]


def evaluation_batch_size(wanted: int | None, training_size: int) -> int:
    """Rows at once: what the recipe wants, else in proportion to training's."""
    return wanted or _TRAINING_TO_EVALUATION * training_size


def evaluate(target: Target, split: str | None, output: Path, listener: Listener) -> dict[str, Any]:
    """Score `target` on a split of its task's data; write metrics.json and predictions/ to `output`.

    `split` None takes the test split where it has labels, else the first validation split, else the only one there is.
    A split without labels is predicted and not scored.

    Raises:
        UserError: the split, the data or the model cannot be had.
    """
    recipe = target.recipe
    folder = RunFolder(output)
    folder.read_metrics()
    listener.working("reading the data, loading the model")
    opened = open_task(target)
    task = opened.task
    split, rows = _choose_split(task, split, recipe.train.seed)
    encoded = task.encode(rows, opened.tokenizer, opened.max_length)
    model = load_model(opened)
    to_device(model, "cuda" if torch.cuda.is_available() else "cpu")
    partial = Partial(folder.partial(split), _model_identity(target))
    answering = make_answering(
        recipe, model, opened.tokenizer, recipe.train.micro_batch_size or recipe.train.batch_size, listener, partial
    )
    with torch.autocast(model.device.type, torch.bfloat16, enabled=uses_bf16(recipe.train)):
        predictions = predict(task, encoded, answering, final=True)
    folder.write_predictions(split, predictions)
    partial.remove()
    result: dict[str, Any] = {"split": split, "examples": len(predictions), "metric": task.metric, "scores": None}
    if encoded.labels is not None:
        result["scores"] = task.score(predictions)
        if any(not np.isfinite(value) for value in result["scores"].values()):
            raise RunFailed(f"a metric of {split} is not finite: {result['scores']}")
        folder.write_metrics(
            {"metric": task.metric, "splits": {split: {"examples": len(predictions), **result["scores"]}}}
        )
    if recipe.paper is not None:
        result["paper"] = recipe.paper.model_dump(exclude_none=True)
    result["folder"] = str(folder.path)
    result["predictions"] = str(folder.predictions(split))
    return result


def make_answering(
    recipe: Recipe,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    training_size: int,
    listener: Listener,
    partial: Partial | None = None,
    check: Callable[[], None] = lambda: None,
) -> Answering:
    """How a model answers as its recipe says; `check` is called between batches and may raise."""

    def telling(tell: Callable[[int, int], None]) -> Callable[[int, int], None]:
        def tick(done: int, total: int) -> None:
            check()
            tell(done, total)

        return tick

    decoder, options = None, recipe.eval.generation
    if options is not None:
        decoder = Decoder(
            model, tokenizer, options, recipe.eval.batch_size, recipe.train.seed, not uses_bf16(recipe.train),
            telling(listener.decoding), listener.note, partial,
        )  # fmt: skip
    size = evaluation_batch_size(recipe.eval.batch_size, training_size)
    context = longest_sequence(model.config, tokenizer)
    return Answering(model, size, decoder, context, telling(listener.evaluating), listener.note)


def _model_identity(target: Target) -> str:
    """What tells the weights of a target from others, without reading them whole."""
    if target.adapter is not None:
        return f"{read_adapter_config(target.adapter).weights_sha256} {target.recipe.model.model_dump_json()}"
    files = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in sorted(target.folder.iterdir())]
    return f"{[file for file in files if 'safetensors' in file[0]]}"


def evaluation_folder(folder: Path, overrides: Sequence[str]) -> Path:
    """Where an evaluation writes: the folder that is scored, or, where anything was changed, a new one inside it."""
    if not overrides:
        return folder
    number = 1
    while (folder / "evaluations" / str(number)).exists():
        number += 1
    return folder / "evaluations" / str(number)


def _choose_split(task: Task, split: str | None, seed: int) -> tuple[str, Rows]:
    names = task.split_names()
    if split is None and "test" in names:
        rows = task.load(seed, ("test",))["test"]
        if task.has_labels(rows):
            return "test", rows
    if split is None:
        split = names[0] if len(names) == 1 else task.validation_splits[0]
    return split, task.load(seed, (split,))[split]
