"""The random generators of a process: their states, for checkpoints and for runs that take turns in one process."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch

from red_cli.distributed.device import generator_state, set_generator_state
from red_cli.distributed.process_group import Processes

_SEED_STRIDE = 0x9E3779B1  # between the seeds of two ranks; far apart from the seeds of other runs


def seed_generators(seed: int, processes: Processes) -> None:
    """Seed the generators of this rank, so that ranks draw different dropout masks."""
    torch.manual_seed(seed if processes.main else seed + processes.index * _SEED_STRIDE)


def generator_states(device: torch.device) -> dict[str, Any]:
    """The states of all random generators of this rank, that of its device by the kind; torch.save can store them."""
    algorithm, keys, position, *gauss = np.random.get_state()
    return {
        "torch": torch.get_rng_state(),
        device.type: generator_state(device),
        "python": random.getstate(),
        "numpy": [algorithm, torch.from_numpy(np.asarray(keys).astype(np.int64)), position, *gauss],
    }


def restore_generators(stored: dict[str, Any], device: torch.device) -> None:
    """Restore the random generators to `stored`; that of the device if it was stored on one of its kind."""
    torch.set_rng_state(stored["torch"])
    if (state := stored.get(device.type)) is not None:
        set_generator_state(device, state)
    version, internal, gauss = stored["python"]
    random.setstate((version, tuple(internal), gauss))
    algorithm, keys, *rest = stored["numpy"]
    np.random.set_state((algorithm, keys.numpy().astype(np.uint32), *rest))
