"""The section `train` of a recipe, and the types of its values."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag

from red_cli.recipe.roles import V0_2, LocalPath, Role
from red_cli.recipe.sections import Count, CountFromZero, NotNegative, Positive, Section

SchedulerName = Literal[
    "linear",
    "cosine",
    "cosine_with_restarts",
    "polynomial",
    "constant",
    "constant_with_warmup",
    "inverse_sqrt",
]
_NONE = ("none", "null", "no", "false", "")
ClassWeights = Annotated[
    Annotated[Literal["balanced"], Tag("word")] | Annotated[dict[str, Positive], Field(min_length=1), Tag("mapping")],
    Discriminator(lambda value: "mapping" if isinstance(value, dict) else "word"),  # one message for a wrong value
]


def _names(value: Any) -> Any:
    """A list of names as recipes may write it: one name, several with commas, or none."""
    if value is None or value is False or (isinstance(value, str) and value.strip().lower() in _NONE):
        return []
    if isinstance(value, str):
        return [name.strip() for name in value.split(",")]
    if isinstance(value, list) and len(value) == 1:
        return _names(value[0]) if isinstance(value[0], str | None) else value
    return value


class Train(Section):
    """How the parameters are trained."""

    seed: Annotated[int, Field(ge=0, lt=2**32), Role.SEED] = Field(
        default=42, description="Seed of head initialisation, order of rows and dropout."
    )
    learning_rate: Annotated[Positive | Literal["auto"], Role.TRAINING] = Field(
        default="auto",
        description="Peak learning rate; auto: the method's usual one where train.rates makes it fit any base, else "
        "found by a short search before the run.",
    )
    rates: Annotated[Literal["relative", "absolute"], Role.TRAINING, V0_2] = Field(
        default="relative",
        description="RED: relative multiplies the learning rate of each bias by the spread of its module's output and "
        "that of scales by 4, and divides both by the number of edited modules in a layer, so that one rate fits "
        "modules and bases; absolute: the same rate for every vector, as published.",
    )
    head_learning_rate: Annotated[Positive | None, Role.TRAINING] = Field(
        default=None, description="Learning rate of the head; default: learning_rate, undivided."
    )
    num_train_epochs: Annotated[Positive, Role.TRAINING] = Field(
        default=3.0, le=1_000_000, description="Epochs: passes over the training split."
    )
    max_steps: Annotated[Count | None, Role.TRAINING] = Field(
        default=None, description="Stop after this many optimiser steps; overrides num_train_epochs."
    )
    batch_size: Annotated[Count, Role.TRAINING] = Field(
        default=32, description="Sequences per optimiser step, over all devices."
    )
    micro_batch_size: Annotated[Count | None, Role.MICRO_BATCH] = Field(
        default=None, description="Sequences per forward pass on one device; default: found by trying."
    )
    lr_scheduler_type: Annotated[SchedulerName, Role.TRAINING] = Field(
        default="linear", description="Learning-rate schedule."
    )
    warmup_ratio: Annotated[float, Field(ge=0, le=1), Role.TRAINING] = Field(
        default=0.0, description="Fraction of the steps that warm up."
    )
    warmup_steps: Annotated[CountFromZero | None, Role.TRAINING] = Field(
        default=None, description="Number of warm-up steps, instead of warmup_ratio."
    )
    weight_decay: Annotated[NotNegative, Role.TRAINING] = Field(
        default=0.0, description="AdamW's, on biases and head. Not applied to scales, whose neutral value is 1."
    )
    adam_beta1: Annotated[float, Field(ge=0, lt=1), Role.TRAINING, V0_2] = Field(
        default=0.9, description="AdamW's decay rate of the mean of gradients."
    )
    adam_beta2: Annotated[float, Field(ge=0, lt=1), Role.TRAINING, V0_2] = Field(
        default=0.999, description="AdamW's decay rate of the mean of squared gradients."
    )
    adam_epsilon: Annotated[Positive, Role.TRAINING, V0_2] = Field(
        default=1e-8, description="AdamW's epsilon, added to the denominator of a step."
    )
    class_weights: Annotated[ClassWeights | None, Role.TRAINING, V0_2] = Field(
        default=None,
        description="Classification: how much the rows of a class count in the training loss, {label: weight}, others "
        "1; balanced: the rarer the more. The loss of a step is the weighted mean; metrics are not weighted.",
    )
    max_grad_norm: Annotated[Positive | None, Role.TRAINING] = Field(
        default=1.0, description="Clip the gradient's norm to this value; null: no clipping."
    )
    bf16: Annotated[bool | Literal["auto"], Role.TRAINING] = Field(
        default="auto", description="bfloat16 autocast; auto: if the device supports it, except CPUs and MPS."
    )
    gradient_checkpointing: Annotated[bool, Role.TRAINING] = Field(
        default=False, description="Recompute activations in the backward pass: less memory, more time."
    )
    cache_prefix: Annotated[bool, Role.RECORDING, V0_2] = Field(
        default=False,
        description="Compute the hidden states that leave the layers before the first trained one once for each row, "
        "and keep them on disk while the run trains. Results agree to rounding.",
    )
    compile: Annotated[bool, Role.TRAINING, V0_2] = Field(
        default=False,
        description="Run each layer of the base as one graph of torch.compile in training steps; making it takes a C++ "
        "compiler and minutes. Losses agree to rounding; evaluations do not use the graphs.",
    )
    packing: Annotated[bool, Role.TRAINING, V0_2] = Field(
        default=False,
        description="Pack the sequences of a step instead of padding, without attention across them.",
    )
    group_by_length: Annotated[bool, Role.TRAINING] = Field(
        default=True, description="Batch the rows of a step by similar length, which reduces padding."
    )
    logging_steps: Annotated[Count, Role.RECORDING] = Field(default=10, description="Steps between lines of log.jsonl.")
    eval_steps: Annotated[Count | None, Role.TRAINING] = Field(
        default=None, description="Steps between evaluations; default: one per epoch."
    )
    save_steps: Annotated[Count | None, Role.RECORDING] = Field(
        default=None, description="Steps between checkpoints; default: at evaluations."
    )
    save_total_limit: Annotated[Count, Role.RECORDING] = Field(default=2, description="Number of checkpoints to keep.")
    early_stopping_patience: Annotated[Count | None, Role.TRAINING] = Field(
        default=None, description="Stop after this many evaluations without improvement."
    )
    report_to: Annotated[list[str], BeforeValidator(_names), Role.RECORDING] = Field(
        default_factory=list,
        description="Trackers: tensorboard (extra: track), wandb, mlflow, trackio; [] or none: no tracker.",
    )
    init_from: Annotated[str | None, Role.TRAINING, LocalPath.ALWAYS, V0_2] = Field(
        default=None,
        description="A finished run or an adapter whose trained parameters, head included, this run starts from: of "
        "the same base, method, modules and labels. Default: a new adapter.",
    )
    resume_from_checkpoint: Annotated[bool | str, Role.RECORDING, LocalPath.FROM_HERE] = Field(
        default=False, description="Resume from the last checkpoint of the run folder (true), or from the one given."
    )
