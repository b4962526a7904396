"""The frozen prefix of a model: its leading repeated layers in which nothing trains, and dropout that acts in them."""

from __future__ import annotations

from torch import nn
from transformers import PreTrainedModel

from red_cli.edit.repeated_layers import stacks


def frozen_prefix(model: PreTrainedModel) -> list[nn.Module]:
    """The leading repeated layers in which nothing trains, in their order: those before the first edited one.

    Of an encoder-decoder they are the encoder's: what enters the decoder's layers depends on the encoder's output.
    """
    found: list[nn.Module] = []
    for block in next(iter(stacks(model)), []):
        if any(parameter.requires_grad for parameter in block.parameters()):
            break
        found.append(block)
    return found


def dropout_in_prefix(model: PreTrainedModel, prefix: list[nn.Module]) -> str | None:
    """The path of a module with dropout that may act up to the end of the frozen prefix; None if there is none.

    The other layers and what stands outside the base, such as a classification head, do not count.
    """
    above = {id(block) for stack in stacks(model) for block in stack} - {id(block) for block in prefix}
    name = model.base_model_prefix if model.base_model is not model else ""

    def look(module: nn.Module, path: str) -> str | None:
        if id(module) in above:
            return None
        if _drops(module):
            return path
        found = (look(child, f"{path}.{name}" if path else name) for name, child in module.named_children())
        return next((each for each in found if each is not None), None)

    return look(model.base_model, name)


def _drops(module: nn.Module) -> bool:
    """Whether a module of the prefix has a dropout probability above 0, of its own or as an attribute."""
    own = [module.p] if isinstance(module, nn.modules.dropout._DropoutNd) else []
    named = [value for name, value in vars(module).items() if "drop" in name]
    return any(isinstance(value, float) and value > 0 for value in (*own, *named))
