"""Keys of how the parameters are trained."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from red_cli.recipe.roles import Role
from red_cli.recipe.section import Count, CountFromZero, NotNegative, Positive, Section

SchedulerName = Literal[
    "linear",
    "cosine",
    "cosine_with_restarts",
    "polynomial",
    "constant",
    "constant_with_warmup",
    "inverse_sqrt",
]


class Train(Section):
    """How the vectors are learnt."""

    seed: Annotated[int, Field(ge=0, lt=2**32), Role.SEED] = Field(
        default=42, description="Decides head initialisation, order and dropout."
    )
    learning_rate: Annotated[Positive | Literal["auto"], Role.TRAINING] = Field(
        default=1e-3, description="Peak learning rate; auto: a short search before the run finds it."
    )
    head_learning_rate: Annotated[Positive | None, Role.TRAINING] = Field(
        default=None, description="Of the head; default: learning_rate."
    )
    num_train_epochs: Annotated[Positive, Role.TRAINING] = Field(
        default=3.0, le=1_000_000, description="Passes over the training split."
    )
    max_steps: Annotated[Count | None, Role.TRAINING] = Field(
        default=None, description="Stop after so many optimiser steps, whatever the epochs."
    )
    batch_size: Annotated[Count, Role.TRAINING] = Field(
        default=32, description="Sequences per optimiser step over all devices."
    )
    micro_batch_size: Annotated[Count | None, Role.MICRO_BATCH] = Field(
        default=None, description="Sequences at once on one device; found by trying if absent."
    )
    lr_scheduler_type: Annotated[SchedulerName, Role.TRAINING] = Field(
        default="linear", description="Shape of the learning rate over the steps."
    )
    warmup_ratio: Annotated[float, Field(ge=0, le=1), Role.TRAINING] = Field(
        default=0.0, description="Share of the steps to warm up in."
    )
    warmup_steps: Annotated[CountFromZero | None, Role.TRAINING] = Field(
        default=None, description="Instead of warmup_ratio."
    )
    weight_decay: Annotated[NotNegative, Role.TRAINING] = Field(
        default=0.0, description="AdamW's, on biases and head. Scales are spared: decay would pull them to 0, not to 1."
    )
    adam_beta1: Annotated[float, Field(ge=0, lt=1), Role.TRAINING] = 0.9
    adam_beta2: Annotated[float, Field(ge=0, lt=1), Role.TRAINING] = 0.999
    adam_epsilon: Annotated[Positive, Role.TRAINING] = 1e-8
    max_grad_norm: Annotated[Positive | None, Role.TRAINING] = Field(
        default=1.0, description="Clip the gradient's norm to this; null: never."
    )
    bf16: Annotated[bool | Literal["auto"], Role.TRAINING] = Field(
        default="auto", description="bfloat16 autocast; auto: where a GPU has it."
    )
    gradient_checkpointing: Annotated[bool, Role.TRAINING] = Field(
        default=False, description="Less memory for more time."
    )
    packing: Annotated[bool, Role.TRAINING] = Field(
        default=False,
        description="Lay the texts of a step one behind another, with no attention across them, instead of padding.",
    )
    group_by_length: Annotated[bool, Role.TRAINING] = Field(
        default=True, description="Pad rows of a step with rows of similar length."
    )
    logging_steps: Annotated[Count, Role.RECORDING] = Field(
        default=10, description="Write a line to log.jsonl every so many steps."
    )
    eval_steps: Annotated[Count | None, Role.TRAINING] = Field(
        default=None, description="Evaluate every so many steps; default: every epoch."
    )
    save_steps: Annotated[Count | None, Role.RECORDING] = Field(
        default=None, description="Checkpoint every so many steps; default: at evaluations."
    )
    save_total_limit: Annotated[Count, Role.RECORDING] = Field(default=2, description="How many checkpoints to keep.")
    early_stopping_patience: Annotated[Count | None, Role.TRAINING] = Field(
        default=None, description="Stop after so many evaluations without a better metric."
    )
    report_to: Annotated[list[str], Role.RECORDING] = Field(
        default_factory=list, description="Trackers, e.g. [tensorboard] (extra: track)."
    )
    resume_from_checkpoint: Annotated[bool | str, Role.RECORDING] = Field(
        default=False, description="Go on from the run folder's last checkpoint (true), or from the one named."
    )
