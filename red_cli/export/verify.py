"""Compare an exported model with its adapter on inputs of the run's task."""

from __future__ import annotations

import gc
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from accelerate.utils import compare_versions
from transformers import PretrainedConfig, PreTrainedModel

from red_cli.base_model.base_files import BaseFiles, read_base
from red_cli.base_model.hub import base_folder
from red_cli.distributed.machine_memory import available_memory
from red_cli.edit.load_adapters import load_adapter
from red_cli.edit.pass_without_cache import output_without_cache
from red_cli.errors import RunFailed, UserError
from red_cli.export.export import Source
from red_cli.export.modelling_file import is_own_code
from red_cli.export.trained_task import base_config, trained_task
from red_cli.export.transformers_classes import auto_class, build_configuration, model_class
from red_cli.export.verify_answers import Question, compare_answers
from red_cli.recipe.schema import Recipe
from red_cli.runs.events import Listener

# The largest accepted difference of logits, relative to the largest logit. In a half-precision base the folded weights
# are rounded once more, so only gross errors can be detected.
TOLERANCES = {"F32": 1e-4, "F64": 1e-4, "F16": 0.05, "BF16": 0.05}
_EXAMPLES = 64
_AT_ONCE = 16
_RANDOM_ROWS, _RANDOM_LENGTH = 4, 32
_MOST_LOGITS = 64 << 20  # values that are kept for the comparison
_MEMORY_SHARE = 0.8
# Earlier versions fail on a model that is entirely on disk, or mix up its tied weights.
_READ_FROM_DISK = {"transformers": "5.13.0", "accelerate": "1.15.0"}

Inputs = dict[str, torch.Tensor]


def verify(source: Source, folder: Path, listener: Listener) -> dict[str, Any]:
    """Run the adapter on its base and the model in `folder` on the same inputs, both in float32.

    A model that does not fit into memory is read from disk layer by layer.

    Returns:
        "examples" compared, "largest_difference" of logits, the share of "equal_answers" (argmax), "checked_on", and of
        one generated "answer" what `compare_answers` says; 0 and None if nothing can be compared.

    Raises:
        RunFailed: they differ by more than the rounding of the weights' dtype.
    """
    listener.status("checking the result")
    base = read_base(source.base, base_folder(source.base, source.revision))
    inputs = _inputs(source, base, listener)
    files = read_base(str(folder), folder)
    in_memory = _fits(base) and _fits(files)
    obstacle = None if inputs.batches else f"a {base.model_type} model takes no text"
    if not in_memory:
        obstacle = obstacle or _too_old_to_read_from_disk()
    if obstacle is not None:
        listener.note(f"Not checked: {obstacle}.")
        return {"examples": 0, "largest_difference": None, "equal_answers": None, "checked_on": None, "answer": None}
    question = inputs.question if in_memory else None
    if question is None and inputs.question is not None:
        listener.note("No answer is generated to check its end: the model does not fit into memory.")
    tolerance = TOLERANCES[_roughest_dtype(files)]
    with tempfile.TemporaryDirectory() as spare:
        model = _with_adapter(source, base, Path(spare))
        expected = [_logits(model, batch) for batch in inputs.batches]
        answer = [] if question is None else question.by_red(model)
        del model
        gc.collect()
        model = _exported(folder, Path(spare))
        compared = _compare(expected, [_logits(model, batch) for batch in inputs.batches], tolerance)
        compared["answer"] = None if question is None else compare_answers(question, answer, model, tolerance)
        del model
    return {**compared, "checked_on": inputs.what}


def _too_old_to_read_from_disk() -> str | None:
    """Why a model that does not fit into memory cannot be compared; None if the libraries are recent enough."""
    old = [f"{name} {version}" for name, version in _READ_FROM_DISK.items() if compare_versions(name, "<", version)]
    return f"the model does not fit into memory, and reading it from disk needs {' and '.join(old)}" if old else None


def _roughest_dtype(exported: BaseFiles) -> str:
    """The dtype of the weights that rounds most."""
    return max(
        (stored.dtype for stored in exported.tensors.values() if stored.dtype in TOLERANCES),
        key=lambda name: TOLERANCES[name],
    )


def _compare(expected: list[torch.Tensor], found: list[torch.Tensor], tolerance: float) -> dict[str, Any]:
    """Compare the logits of the exported model with the adapter's; an error if they differ too much."""
    difference = max((one - other).abs().max().item() for one, other in zip(expected, found, strict=True))
    largest = max(logits.abs().max().item() for logits in expected)
    if not difference <= tolerance * max(1.0, largest):
        raise RunFailed(
            "verification-failed",
            f"the exported model differs from the adapter: logits differ by up to {difference:.2e}, the largest is "
            f"{largest:.2e}; nothing was written",
        )
    equal = torch.cat(
        [(one.argmax(-1) == other.argmax(-1)).flatten() for one, other in zip(expected, found, strict=True)]
    )
    return {
        "examples": sum(len(logits) for logits in expected),
        "largest_difference": difference,
        "equal_answers": equal.float().mean().item(),
    }


@torch.inference_mode()
def _logits(model: PreTrainedModel, inputs: Inputs) -> torch.Tensor:
    """The logits of a batch as float32 for the comparison, or the last hidden state; 0 at padding positions."""
    output = output_without_cache(model, inputs)
    logits = getattr(output, "logits", None)
    if logits is None and hasattr(output, "start_logits"):
        logits = torch.stack([output.start_logits, output.end_logits], dim=-1)
    logits = output.last_hidden_state if logits is None else logits
    mask = inputs.get("attention_mask")
    if mask is not None and logits.shape[:-1] == mask.shape:  # ignore logits at padding positions
        logits = logits * mask[..., None]
    return logits.float()


def _with_adapter(source: Source, base: BaseFiles, spare: Path) -> PreTrainedModel:
    """Load the base with the adapter attached, as the reference of the verification."""
    config = base_config(base, source.adapter.config)
    kind = model_class(source.adapter.config.architecture or str(base.architecture))
    placement = _placement(base, kind, config, source.adapter.config.head, spare / "base")
    model = kind.from_pretrained(base.folder, config=config, ignore_mismatched_sizes=True, **placement)
    load_adapter(model, source.adapter.folder)
    return model.eval()


def _exported(folder: Path, spare: Path) -> PreTrainedModel:
    """Load the exported model in float32 for the verification; from disk if it does not fit into memory."""
    files = read_base(str(folder), folder)
    architecture = str(files.architecture)
    options: dict[str, Any] = {}
    if is_own_code(folder, architecture):
        kind, options = getattr(transformers, auto_class(architecture)), {"trust_remote_code": True}
    else:
        kind = model_class(architecture)
    if not _fits(files):
        options |= {"device_map": {"": "disk"}, "offload_folder": str(spare / "exported")}
    return kind.from_pretrained(folder, dtype=torch.float32, **options).eval()


def _fits(files: BaseFiles) -> bool:
    """Whether a model fits into memory in float32."""
    numbers = sum(_count(stored.shape) for stored in files.tensors.values())
    return numbers * torch.float32.itemsize < available_memory() * _MEMORY_SHARE


def _placement(
    base: BaseFiles, kind: type[PreTrainedModel], config: PretrainedConfig, head: list[str], spare: Path
) -> dict[str, Any]:
    """Where the base to compare with is loaded: in memory if it fits, else on disk except for a trained head."""
    if _fits(base):
        return {"dtype": torch.float32}
    with torch.device("meta"):
        parts = [name for name, _ in kind(config).named_children()]
    trained = {name.split(".")[0] for name in head}
    places = {part: "cpu" if part in trained else "disk" for part in parts}
    return {"dtype": torch.float32, "device_map": places, "offload_folder": str(spare)}


def _count(shape: tuple[int, ...]) -> int:
    """The number of values in a tensor of this shape, to estimate the memory of the verification."""
    return int(np.prod(shape, dtype=np.int64))


@dataclass(frozen=True)
class _CheckInputs:
    """Batches for both models.

    Attributes:
        what: a description of the batches; None if there are none.
        question: a prompt whose answer both generate; None if the task is not known or generates no text.
    """

    batches: list[Inputs]
    what: str | None
    question: Question | None = None


def _inputs(source: Source, base: BaseFiles, listener: Listener) -> _CheckInputs:
    """Examples of the run's task to verify an export on, or else random tokens; none if neither fits."""
    if source.recipe is not None:
        try:
            return _of_task(source, source.recipe, base)
        except UserError as error:
            listener.note(f"Examples of the task are not available, so the check uses random tokens: {error}")
    config = build_configuration(base.config)
    vocabulary = getattr(config.get_text_config(), "vocab_size", None)
    if vocabulary is None or hasattr(config, "vision_config") or hasattr(config, "num_mel_bins"):
        return _CheckInputs([], None)
    generator = torch.Generator().manual_seed(0)
    choices = [1] * str(source.adapter.config.architecture).endswith("ForMultipleChoice")
    shape = (1, *choices, _RANDOM_LENGTH)
    rows = [torch.randint(vocabulary, shape, generator=generator) for _ in range(_RANDOM_ROWS)]
    names = ("input_ids", "decoder_input_ids") if config.is_encoder_decoder else ("input_ids",)
    return _CheckInputs([dict.fromkeys(names, row) for row in rows], "rows of random tokens")


def _of_task(source: Source, recipe: Recipe, base: BaseFiles) -> _CheckInputs:
    """The first rows of the selection split, as many as the logits of fit into the limit."""
    trained = trained_task(recipe, source.adapter.config, base)
    task = trained.task
    split = task.validation_splits[0]
    splits = task.load(recipe.train.seed, (split,))
    rows = splits.rows[split].take(list(range(min(_EXAMPLES, splits.rows[split].table.num_rows))))
    encoder = trained.encoder(splits.label_names)
    encoded = encoder.encode(rows)
    config = trained.base.config
    wide = 1 if task.kind.trains_head else int(encoded.lengths.max()) * config.get_text_config().vocab_size
    kept = max(1, min(len(encoded), _MOST_LOGITS // wide))
    batches = [
        encoder.collate(encoded, np.arange(start, min(start + _AT_ONCE, kept))).inputs
        for start in range(0, kept, _AT_ONCE)
    ]
    question = Question.of(encoded, trained.base, getattr(encoder, "special_ids", None))
    return _CheckInputs(batches, "examples of the task", question)
