"""Count how often the host reads tensors, which on a GPU are waits for the device."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor

_READS = ("tolist", "item", "__float__", "__int__", "__bool__", "numpy", "cpu")


@contextmanager
def counted_reads(monkeypatch: pytest.MonkeyPatch) -> Iterator[Counter[int]]:
    """Thread -> the reads of tensors by it inside the block."""
    reads: Counter[int] = Counter()
    inner = threading.local()

    def counting(real: Any) -> Any:
        def read(tensor: Tensor, *arguments: Any, **options: Any) -> Any:
            outer = getattr(inner, "inside", False)
            reads[threading.get_ident()] += not outer
            inner.inside = True
            try:
                return real(tensor, *arguments, **options)
            finally:
                inner.inside = outer

        return read

    with monkeypatch.context() as patch:
        for name in _READS:
            patch.setattr(torch.Tensor, name, counting(getattr(torch.Tensor, name)))
        yield reads
