"""One base and one reading of the rows for several runs of RED in one process, each with an adapter of its own."""

from __future__ import annotations

import gc
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from transformers import PreTrainedModel

from red_cli.base_model.digest import BaseRecord, take_digest
from red_cli.base_model.drawn_heads import load_with_heads
from red_cli.base_model.load import to_device
from red_cli.base_model.prepare import uses_bf16
from red_cli.distributed.device import chosen_device, empty_cache
from red_cli.distributed.engine import Engine, Replicated
from red_cli.distributed.process_group import Processes
from red_cli.edit.attach import activate, detach
from red_cli.edit.attached_adapters import attachment, require_attachment
from red_cli.methods.method import Trained
from red_cli.methods.red import attach_red
from red_cli.plan.prepare import Prepared, prepare
from red_cli.plan.strategy import StrategyChoice
from red_cli.recipe.keys_by_role import values_of
from red_cli.recipe.roles import Role
from red_cli.recipe.schema import Recipe
from red_cli.runs.inputs import drawn_by_seed
from red_cli.train.optimizer import build_optimizer
from red_cli.train.resources import accelerator_for, set_precision

# Roles and keys that do not change how rows are read and encoded. Keys that are missing here cost time and no more.
_WITHOUT_EFFECT = frozenset({Role.METHOD, Role.OPTIONS, Role.MICRO_BATCH, Role.RECORDING, Role.OUTPUT, Role.MACHINE,
                             Role.COSMETIC, Role.SEED})  # fmt: skip
_OF_THE_OPTIMISER = frozenset(
    f"train.{key}"
    for key in ("learning_rate", "rates", "head_learning_rate", "num_train_epochs", "lr_scheduler_type", "warmup_ratio",
                "warmup_steps", "weight_decay", "adam_beta1", "adam_beta2", "adam_epsilon", "max_grad_norm",
                "early_stopping_patience", "init_from")
)  # fmt: skip


@dataclass(frozen=True)
class _Base:
    """A loaded base.

    Attributes:
        settings: what it was loaded with.
        head: the names of the head's parameters.
        heads: seed -> the values of the head's parameters that it draws.
        device: where it computes.
    """

    settings: dict[str, str]
    model: PreTrainedModel
    head: list[str]
    heads: dict[int, dict[str, Tensor]]
    device: torch.device


class SharedResources:
    """The resources of runs that take turns on one base. See `resources.Resources`.

    The base is loaded once; its head is drawn for every seed before an adapter is attached, as each run would draw it.
    A base with other settings, such as one without dropout for a learning-rate search, replaces it as long as no
    adapter is attached.

    Args:
        seeds: of all runs.
    """

    def __init__(self, seeds: Sequence[int]) -> None:
        self._seeds = list(dict.fromkeys(seeds))
        self._base: _Base | None = None
        self._rows: dict[str, Prepared] = {}
        self._records: dict[tuple[str, ...], BaseRecord] = {}
        self._attached = 0

    def prepare(self, recipe: Recipe) -> Prepared:
        key = _rows_key(recipe)
        if key not in self._rows:
            self._rows[key] = prepare(recipe)
        return self._rows[key]

    def attach(self, recipe: Recipe, prepared: Prepared, processes: Processes, choice: StrategyChoice) -> Trained:
        base = self._loaded(recipe, prepared, processes)
        if attachment(base.model) is not None:
            activate(base.model, None)
        with torch.no_grad():
            for name, value in base.heads[recipe.train.seed].items():
                base.model.get_parameter(name).copy_(value)
        self._attached += 1
        return attach_red(base.model, recipe.red, base.head, f"run{self._attached}")

    def record(self, recipe: Recipe, trained: Trained) -> BaseRecord:
        key = (recipe.model.model_dump_json(), *trained.modules)
        if key not in self._records:
            self._records[key] = take_digest(recipe.model, recipe.method, trained.modules)
        return self._records[key]

    def engine(
        self, recipe: Recipe, trained: Trained, processes: Processes, choice: StrategyChoice
    ) -> tuple[torch.optim.Optimizer, Engine, Processes]:
        assert self._base is not None
        assert not choice.sharded  # other strategies are refused
        processes = replace(processes, device=self._base.device)
        optimizer = build_optimizer(trained, recipe)
        return optimizer, Replicated(trained.model, trained, optimizer, processes, sharded=False), processes

    def release(self, trained: Trained) -> None:
        for parameter in trained.parameters(trained.names):
            parameter.grad = None  # the next run trains the same parameters of the head
        detach(trained.model, active_name(trained.model))

    def forget_base(self) -> None:
        """Give up the base with all that is attached to it; the next run loads it again."""
        self._base = None
        gc.collect()
        empty_cache(chosen_device())

    def _loaded(self, recipe: Recipe, prepared: Prepared, processes: Processes) -> _Base:
        """The base of a run: the one that is loaded, or it is loaded now."""
        settings = base_settings(recipe, prepared)
        if self._base is not None and self._base.settings == settings:
            return self._base
        assert self._base is None or attachment(self._base.model) is None
        self.forget_base()  # its memory is free before the next one is loaded
        config, kind = prepared.base.config, prepared.task.kind
        model, head, heads = load_with_heads(recipe.model, config, kind, self._seeds, processes.device)
        accelerator = accelerator_for(recipe, model, processes)
        to_device(model, device := chosen_device())
        set_precision(accelerator, model)
        self._base = _Base(settings, model, head, heads, device)
        return self._base


def base_settings(recipe: Recipe, prepared: Prepared) -> dict[str, str]:
    """What decides how a base is loaded and computes, by name; runs with the same settings can share one.

    Returns:
        Recipe keys and keys of the base's configuration -> their values as JSON.
    """
    config = prepared.base.config
    settings = {
        **{f"config.{key}": value for key, value in config.to_dict().items()},
        **{f"model.{key}": value for key, value in recipe.model.model_dump().items()},
        "attention": config._attn_implementation,
        "kind": prepared.task.kind.auto_class.__name__,
        "train.bf16": uses_bf16(recipe.train),
        "train.gradient_checkpointing": recipe.train.gradient_checkpointing,
    }
    return {name: json.dumps(value, sort_keys=True, default=repr) for name, value in settings.items()}


def active_name(model: PreTrainedModel) -> str:
    """The name of the active adapter of the shared base."""
    name = require_attachment(model).selection.active
    assert name is not None
    return name


def _rows_key(recipe: Recipe) -> str:
    """What decides how the rows of a recipe are read and encoded; runs with the same key can share them."""
    values = values_of(recipe, frozenset(Role) - _WITHOUT_EFFECT)
    kept = {key: value for key, value in values.items() if key not in _OF_THE_OPTIMISER}
    if drawn_by_seed(recipe) or recipe.eval.max_rows is not None:
        kept["train.seed"] = recipe.train.seed
    return json.dumps(kept, sort_keys=True)
