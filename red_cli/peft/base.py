"""The model under a PEFT model before the first adapter, and an adapter as that model has it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from transformers import PreTrainedModel

from red_cli.edit.adapter_config import KEY_PREFIX
from red_cli.edit.attached_adapters import is_folded
from red_cli.edit.config import RedConfig
from red_cli.edit.layer import RedEdit
from red_cli.edit.model_kinds import task_type
from red_cli.edit.recorded_base import BaseIdentity
from red_cli.edit.save import label_names
from red_cli.edit.targets import Target
from red_cli.edit.tensor_file import Form
from red_cli.edit.trained_head import head_and_new_poolers, head_parameter_names, new_parameter_names
from red_cli.errors import UserError


@dataclass(frozen=True)
class Base:
    """PEFT's base: a model as it was before the first adapter was attached.

    Attributes:
        architecture: the name of its class.
        modules: the paths of its modules.
        shapes: the shapes of its parameters by name.
        shared: the names of parameters that other modules use as well.
        head: the names of the head's parameters.
        new_head: those of the head, and of poolers that are not in the base's files, if there is a head.
        random: those of `new_head` that the base's files do not hold.
        task_types: the task type of an adapter without and with a trained head.
        label_names: the label names of an adapter without and with a trained head.
        folded: whether edits were folded into its weights.
    """

    identity: BaseIdentity
    architecture: str
    modules: frozenset[str]
    shapes: dict[str, tuple[int, ...]]
    shared: frozenset[str]
    head: frozenset[str]
    new_head: tuple[str, ...]
    random: frozenset[str]
    task_types: tuple[str, str]
    label_names: tuple[list[str] | None, list[str] | None]
    folded: bool

    @classmethod
    def of(cls, model: PreTrainedModel) -> Base:
        """What stands for a model in adapter files.

        Raises:
            UserError: it is not a model of transformers, or has edits already.
        """
        if not isinstance(model, PreTrainedModel):
            raise UserError("unsupported-model", f"{type(model).__name__} is not a model of transformers")
        if any(isinstance(module, RedEdit) for module in model.modules()):
            raise UserError("invalid-adapter-name", "the model has edits already", hint="Detach them: red_cli.detach.")
        named = dict(model.named_parameters())
        every = [(name, id(parameter)) for name, parameter in model.named_parameters(remove_duplicate=False)]
        uses = Counter(number for _, number in every)
        return cls(
            identity=BaseIdentity.of(model),
            architecture=type(model).__name__.removeprefix("FSDP"),
            modules=frozenset(path for path, _ in model.named_modules()),
            shapes={name: tuple(parameter.shape) for name, parameter in named.items()},
            shared=frozenset(name for name, number in every if uses[number] > 1),
            head=frozenset(head_parameter_names(model)),
            new_head=tuple(head_and_new_poolers(model)),
            random=frozenset(new_parameter_names(model)),
            task_types=(task_type(model, False), task_type(model, True)),
            label_names=(label_names(model, False), label_names(model, True)),
            folded=is_folded(model),
        )

    def parts(self, modules: list[str]) -> Iterator[str]:
        """The paths of the modules that own the parameters of `modules`, which are the ends of paths."""
        for owner in dict.fromkeys(name.rpartition(".")[0] for name in self.shapes):
            steps = owner.split(".")
            above = [".".join(steps[: count + 1]) for count in range(len(steps))]
            if any(path.endswith(end) for path in above for end in modules):
                yield owner


@dataclass(frozen=True)
class Attached:
    """An adapter on PEFT's base: its edits' configuration with positions resolved, and the edited modules."""

    base: Base
    edit: RedConfig
    targets: list[Target]

    @property
    def paths(self) -> list[str]:
        """The paths of the edited modules."""
        return [target.path for target in self.targets]

    @property
    def widths(self) -> dict[str, int]:
        """The widths of the edited modules by path."""
        return {target.path: target.width for target in self.targets}

    def forms(self) -> dict[str, Form]:
        """The shapes and dtypes of the vectors in an adapter file, by key."""
        return {
            f"{KEY_PREFIX}{target.path}.red.{component}": ((target.width,), "float32")
            for target in self.targets
            for component in self.edit.components
        }
