"""What a base held when an adapter was trained on it, in two digests."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from red_cli.edit.adapter_config import BaseDigest
from red_cli.export.places import Places
from red_cli.export.source import BaseFiles, Stored

# Keys of config.json that change from one saving to the next and say nothing about the function.
_UNSTEADY = ("transformers_version", "_name_or_path", "architectures", "torch_dtype", "dtype")
_BLOCK = 4 << 20


def base_digest(base: BaseFiles, places: Places) -> BaseDigest:
    """Digest a base's configuration and the tensors that are edited, reading these once."""
    stored = [base.tensors[name] for name in places.tensors]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return combine(base, dict(zip(places.tensors, pool.map(_tensor_digest, stored), strict=True)))


def combine(base: BaseFiles, tensors: Mapping[str, str]) -> BaseDigest:
    """The digest of a base, from those of the edited tensors by name."""
    lines = [
        f"{name} {base.tensors[name].dtype} {base.tensors[name].shape} {tensors[name]}" for name in sorted(tensors)
    ]
    return BaseDigest(config=config_digest(base.config), tensors=hashlib.sha256("\n".join(lines).encode()).hexdigest())


def config_digest(config: Mapping[str, Any]) -> str:
    """The digest of config.json's content."""
    steady = {key: value for key, value in config.items() if key not in _UNSTEADY}
    return hashlib.sha256(json.dumps(steady, sort_keys=True).encode()).hexdigest()


def _tensor_digest(stored: Stored) -> str:
    digest, block = hashlib.sha256(), bytearray(_BLOCK)
    with stored.file.open("rb", buffering=0) as file:
        file.seek(stored.start)
        left = stored.size
        while left and (count := file.readinto(memoryview(block)[:left])):
            digest.update(memoryview(block)[:count])
            left -= count
    return digest.hexdigest()
