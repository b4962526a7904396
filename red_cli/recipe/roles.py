"""The roles of recipe keys, and sets of roles that decide how commands treat a key.

A field carries its `Role`, as in `seed: Annotated[int, Role.SEED]`. The role of a section holds for all of its keys.
`red_cli.recipe.keys_by_role` looks roles up by key.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto


class Role(Enum):
    """What a key determines. Each key has exactly one role."""

    TASK = auto()  # what is trained for, and how answers are read
    BASE = auto()  # the base model
    SOURCE = auto()  # where rows come from, and which split they belong to
    READING = auto()  # how rows are read, and which are left out
    METHOD = auto()  # the method
    OPTIONS = auto()  # options of a method
    SEED = auto()
    TRAINING = auto()  # how the parameters are trained
    MICRO_BATCH = auto()  # how a step is split into micro-batches, which does not change the result
    RECORDING = auto()  # what a run logs, keeps and saves, and when
    SPLIT = auto()  # which rows select the best evaluation, and which are scored
    METRIC = auto()  # what selects the best evaluation
    FIGURES = auto()  # further metrics of the same answers
    INFERENCE_BATCH = auto()  # batch size of inference
    DECODING = auto()  # how texts are generated
    OUTPUT = auto()  # where files go
    MACHINE = auto()  # processes and devices
    COSMETIC = auto()  # what is shown with the result


class LocalPath(Enum):
    """A mark next to a key's role: it may be a local path, relative to the recipe's folder unless noted otherwise."""

    ALWAYS = auto()
    FROM_HERE = auto()  # relative to the working directory
    OR_HUB_NAME = auto()
    OR_TEMPLATE = auto()  # the name of a chat template, or its text


class Text(Enum):
    """A mark next to a key's role: its text may be empty, since it is used verbatim."""

    MAY_BE_EMPTY = auto()


@dataclass(frozen=True)
class Since:
    """A mark next to a key's role: the version of red that introduced it; a section's holds for all of its keys.

    Without a mark a key is of the first version.
    """

    version: str


FIRST_VERSION = Since("0.1")
V0_2 = Since("0.2")

# Keys that may change when a run is resumed: training has the same result
SAME_RUN = frozenset({Role.RECORDING, Role.FIGURES, Role.OUTPUT, Role.MACHINE, Role.COSMETIC})
# Fixed once a model is trained
TRAINED = frozenset({Role.METHOD, Role.OPTIONS, Role.SEED, Role.TRAINING, Role.MICRO_BATCH, Role.RECORDING})
# Which rows a split consists of, and what they contain
ROWS = frozenset({Role.TASK, Role.SOURCE, Role.READING, Role.SPLIT})
# Fixed within a comparison of methods: scores of other rows or metrics are not comparable
SHARED = frozenset({Role.METHOD, Role.OUTPUT, Role.SEED, Role.TASK, Role.SOURCE, Role.SPLIT, Role.METRIC})
# May differ between runs that a report groups as seeds of one recipe
SAME_GROUP = frozenset({Role.SEED, Role.MICRO_BATCH, Role.METRIC, Role.INFERENCE_BATCH})
# Where a run was executed, not what it computed
PLACE = frozenset({Role.OUTPUT, Role.MACHINE})
# Where the data are
DATA = frozenset({Role.SOURCE, Role.READING})
