"""What an export's target takes: its forms, and the biases that it would drop or refuse."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

from red_cli.base_model.stored_tensor import StoredTensor, StoredVector, to_float32
from red_cli.edit.architectures import architecture_of
from red_cli.errors import UserError
from red_cli.export.exported_model import Exported
from red_cli.export.python_use import DECODER
from red_cli.export.transformers_classes import auto_class

Target = Literal["transformers", "vllm", "llama.cpp"]
# The forms of export that a target takes; llama.cpp takes merged weights by way of its converter.
_FORMS: dict[Target, tuple[str, ...]] = {
    "transformers": ("merged", "code"),
    "vllm": ("merged",),
    "llama.cpp": ("merged", "gguf"),
}
_SCALES = "train with red.components=[scale], which every server reads"


def require_served_form(target: Target, form: str) -> None:
    """Check that the export's target, a server, takes exports of this form.

    Raises:
        UserError: it does not; the message names the forms that it takes.
    """
    if form not in _FORMS[target]:
        raise UserError(
            "invalid-option",
            f"--target {target} goes with --format {' or '.join(_FORMS[target])}, not {form}",
        )


def require_served(target: Target, exported: Exported) -> None:
    """Check, before anything is written, that a target computes what the exported model does.

    Raises:
        UserError: `red` does not know that the target runs the architecture, or the target has no place for a bias;
            the hint names the ways out.
    """
    if target == "transformers":
        return
    model_type = exported.config["model_type"]
    tensors = [(output.name, output.content) for outputs in exported.shards.values() for output in outputs]
    unread = unread_biases(target, model_type, tensors)
    if unread is None or auto_class(exported.architecture) != DECODER:
        raise UserError(
            "unsupported-model",
            f"{target} is not known to run {exported.architecture}",
            hint="Export without --target; docs/guide/serving.md lists the models that each server runs.",
        )
    if unread:
        raise UserError(
            "unsupported-model",
            f"{target} has no place for {len(unread)} biases of this {model_type} model, the first at {unread[0]}",
            hint=_way_out(target, model_type, tensors),
        )


def _way_out(target: Target, model_type: str, tensors: Sequence[tuple[str, StoredTensor | StoredVector]]) -> str:
    """What else a user can do where the target has no place for a bias."""
    if target == "vllm":
        return (
            f"Export with --target transformers, then `vllm serve --model-impl transformers` reads them; or {_SCALES}."
        )
    others = ["transformers", *(["vllm"] if unread_biases("vllm", model_type, tensors) == [] else [])]
    return f"Give --target {' or '.join(others)}; or {_SCALES}."


def unread_biases(
    target: Target, model_type: str, tensors: Iterable[tuple[str, StoredTensor | StoredVector]]
) -> list[str] | None:
    """The modules whose biases the target's class of the model has no place for.

    vLLM drops such biases without a message, which changes nothing where they are 0; llama.cpp refuses the file.

    Args:
        tensors: the model's tensors, by name.

    Returns:
        The paths of the modules; None if the target is not known to run the architecture.
    """
    servers = architecture_of(model_type).servers
    reads = {"vllm": servers.vllm, "llama.cpp": servers.llama_cpp}.get(target)
    if reads is None:
        return None
    found = []
    for name, tensor in tensors:
        module, _, kind = name.rpartition(".")
        if kind == "bias" and not reads.has_place_at(module) and (target == "llama.cpp" or not _is_zero(tensor)):
            found.append(module)
    return found


def _is_zero(tensor: StoredTensor | StoredVector) -> bool:
    """Whether every number of a tensor that a target would drop is 0."""
    content = tensor.content if isinstance(tensor, StoredVector) else tensor.read()
    return not to_float32(content, tensor.dtype).any()
