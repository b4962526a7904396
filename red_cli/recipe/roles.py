"""What a key of a recipe is for, said in the field itself, and what follows from it.

A field carries a `Role`, as in `seed: Annotated[int, Role.SEED]`. A role on a field that is a section holds for all the
keys in it. `red_cli.recipe.keys` walks the schema and answers by key.
"""

from __future__ import annotations

from enum import Enum, auto


class Role(Enum):
    """What a key decides. Each key has exactly one role."""

    TASK = auto()  # what is learned, and how an answer is read
    BASE = auto()  # the model that is trained upon
    SOURCE = auto()  # where rows come from, and which of them train, select and test
    READING = auto()  # how rows are read, and which of them are left out
    METHOD = auto()  # which method trains
    OPTIONS = auto()  # options of one method
    SEED = auto()
    TRAINING = auto()  # how the parameters are trained
    MICRO_BATCH = auto()  # how a step is cut: the result stays the same
    RECORDING = auto()  # what a training run writes down, and when
    SPLIT = auto()  # which rows select the best evaluation, and which are scored
    METRIC = auto()  # what selects the best evaluation
    FIGURES = auto()  # further figures of the same answers
    INFERENCE_BATCH = auto()  # how many rows are scored at once
    DECODING = auto()  # how texts are generated
    OUTPUT = auto()  # where files go
    MACHINE = auto()  # the devices of the run
    COSMETIC = auto()  # what is shown with the result


class LocalPath(Enum):
    """Marks a key that may hold a local path, which starts at the recipe's folder."""

    ALWAYS = auto()
    OR_HUB_NAME = auto()
    OR_TEMPLATE = auto()  # the name of a chat template, or its text


class Text(Enum):
    """Marks what may be an empty text: it is written or shown as it is."""

    MAY_BE_EMPTY = auto()


# A change of any other key makes another run.
SAME_RUN = frozenset({Role.RECORDING, Role.FIGURES, Role.OUTPUT, Role.MACHINE, Role.COSMETIC})
# Settled once a model is trained
TRAINED = frozenset({Role.METHOD, Role.OPTIONS, Role.SEED, Role.TRAINING, Role.MICRO_BATCH, Role.RECORDING})
# Which rows are meant by the name of a split, and what they contain
ROWS = frozenset({Role.TASK, Role.SOURCE, Role.READING, Role.SPLIT})
# The same for every method of a comparison: scores of other rows or by another metric do not compare.
SHARED = frozenset({Role.METHOD, Role.OUTPUT, Role.SEED, Role.TASK, Role.SOURCE, Role.SPLIT, Role.METRIC})
# May differ between runs that a report takes together as seeds of one recipe
SAME_GROUP = frozenset({Role.SEED, Role.MICRO_BATCH, Role.METRIC, Role.INFERENCE_BATCH})
# Where and on what a run ran, not what it did
PLACE = frozenset({Role.OUTPUT, Role.MACHINE})
# Where the data are
DATA = frozenset({Role.SOURCE, Role.READING})
