"""The cache of a frozen prefix: checked on a few rows, filled before the first step, and gone when training ends.

The file loses its name as soon as all ranks have opened it, so that nothing is left of it, whatever ends the run. A
resumed run computes it again, with the same result.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from red_cli.distributed.device import forked_generators
from red_cli.edit.frozen_prefix import frozen_prefix
from red_cli.edit.pass_without_cache import output_without_cache
from red_cli.edit.skipped_layers import Prefix, hidden_states, output_of, skipped_layers
from red_cli.formatting import byte_size
from red_cli.inference.predict import evaluation_batch_size, forward_rows
from red_cli.inference.prefix_states import PrefixStates, StoredRows
from red_cli.inference.shared_rows import StopSignal
from red_cli.plan.batches import MicroBatch
from red_cli.plan.prefix_plan import cached_splits, no_effect, prefix_offsets
from red_cli.tasks.base import Batch
from red_cli.tasks.text.packing import pack
from red_cli.train.session import Session

T = TypeVar("T")
_FILE = ".prefix_states.tmp"
_CHECKED_ROWS = 4
# Apart by this share of the largest logit: with the states of the same batch, and with those of each row alone
_SAME, _ROUNDED = 1e-6, {torch.float32: 1e-4, torch.float64: 1e-4}
_ROUNDED_HALF = 5e-2
_STEP = 2**24  # bytes written at once


class _NoCache(Exception):
    """Why a run has no cache of its prefix."""


@contextmanager
def cached_prefix(session: Session, stop: StopSignal) -> Iterator[None]:
    """Inside the block, passes over training rows and over those of evaluations skip the frozen prefix.

    Without train.cache_prefix, or where its plan has an obstacle, nothing changes. All ranks call it.
    """
    plan = session.schedule.prefix
    if plan is None or plan.obstacle is not None:
        yield
        return
    session.listener.status("computing the frozen layers")
    with forked_generators(session.processes.device):
        states = _states(session, stop)
    session.runtime = replace(session.runtime, prefix=states)
    try:
        yield
    finally:
        session.runtime = replace(session.runtime, prefix=None)


def _states(session: Session, stop: StopSignal) -> PrefixStates | None:
    """The filled cache; None, with a note, if the model on some rank or the disk does not allow it."""
    processes = session.processes
    try:
        if len(set(processes.gather(platform.node()))) > 1:  # whoever started the processes
            raise _NoCache("it needs a single machine")
        checked = _on_all_ranks(session, lambda: _Check.of(session).checked())
        stored = _allocated(session, checked)
    except _NoCache as problem:
        session.listener.note(f"{no_effect(str(problem))}.")
        return None
    for rows in stored:
        _fill(session, checked.prefix, rows, stop)
    processes.barrier()
    return PrefixStates(checked.prefix, stored, processes.device)


def _on_all_ranks(session: Session, compute: Callable[[], T]) -> T:
    """What this rank computes for the cache.

    Raises:
        _NoCache: on all ranks, if it was raised on one.
    """
    found, why = None, None
    try:
        found = compute()
    except _NoCache as problem:
        why = str(problem)
    reasons = [each for each in session.processes.gather(why) if each is not None]
    if reasons or found is None:
        raise _NoCache(reasons[0])
    return found


@dataclass(frozen=True)
class _Checked:
    """A prefix whose model computes the same from stored states, and the dtype and width of these."""

    prefix: Prefix
    dtype: torch.dtype
    width: int


@dataclass(frozen=True)
class _Check:
    """Compares the model with and without its prefix on a few training rows.

    Attributes:
        rows_by_sequence: as places in `rows`.
        alone: a batch of each row.
    """

    model: nn.Module
    session: Session
    blocks: list[nn.Module]
    rows: list[int]
    batch: Batch
    rows_by_sequence: list[list[int]]
    alone: list[Batch]

    @classmethod
    def of(cls, session: Session) -> _Check:
        """The check of a session's model, on rows that are evenly spread over the split."""
        prepared, device = session.prepared, session.processes.device
        encoded = prepared.encoded["train"]
        rows = np.unique(np.linspace(0, len(encoded) - 1, _CHECKED_ROWS).astype(np.int64))
        piece = MicroBatch.of_packs(pack(rows, encoded.lengths)) if session.settings.packing else MicroBatch(rows)
        place = {row: number for number, row in enumerate(rows.tolist())}
        return cls(
            model=session.engine.model,
            session=session,
            blocks=frozen_prefix(session.model),
            rows=rows.tolist(),
            batch=session.collate(piece).to(device),
            rows_by_sequence=[[place[row] for row in sequence] for sequence in piece.rows_by_sequence],
            alone=[prepared.encoder.collate(encoded, rows[[at]]).to(device) for at in range(len(rows))],
        )

    def checked(self) -> _Checked:
        """The prefix that can be skipped.

        Raises:
            _NoCache: there is none.
        """
        first = output_of(self.blocks[0], lambda: output_without_cache(self.model, self.batch.inputs))
        after = hidden_states(output_of(self.blocks[-1], lambda: output_without_cache(self.model, self.batch.inputs)))
        if after.requires_grad:
            raise _NoCache("parameters train before the first layer")
        if after.shape[:2] != self.batch.inputs["input_ids"].shape:
            raise _NoCache("the layers do not pass on a state for each token of a row")
        was_training = self.model.training
        self.model.eval()
        try:
            with torch.no_grad():
                after, alone = self._after(self.batch), [self._after(batch) for batch in self.alone]
        finally:
            self.model.train(was_training)
        offsets = np.cumsum([0, *(each.shape[1] for each in alone)])
        stored = StoredRows(self.session.prepared.encoded["train"], offsets, torch.cat(alone, dim=1)[0].cpu())
        expected = self._logits()
        rounded = _ROUNDED.get(after.dtype, _ROUNDED_HALF)
        trials = [(after, _SAME), (stored.read(self.rows_by_sequence).to(after.device), rounded)]
        for prefix in Prefix.ways(self.blocks, first):
            if all(self._agrees(prefix, states, expected, most) for states, most in trials):
                return _Checked(prefix, after.dtype, after.shape[-1])
        raise _NoCache("the base computes something else from stored states")

    def _agrees(self, prefix: Prefix, states: Tensor, expected: Sequence[Tensor], most: float) -> bool:
        """Whether the logits without the prefix are the expected ones, to a share `most` of the largest one."""
        try:
            with skipped_layers(prefix, states):
                found = self._logits()
        except (AttributeError, RuntimeError, TypeError, ValueError):  # a later layer needs what is left out
            return False
        return len(found) == len(expected) and all(
            one.shape == other.shape and bool((one - other).abs().max() <= most * other.abs().max())
            for one, other in zip(found, expected, strict=True)
        )

    def _after(self, batch: Batch) -> Tensor:
        """The hidden states that leave the prefix."""
        return hidden_states(output_of(self.blocks[-1], lambda: output_without_cache(self.model, batch.inputs)))

    def _logits(self) -> list[Tensor]:
        """The logits that the loss of the batch is computed from, in training."""
        found: list[Tensor] = []
        handle = self.model.register_forward_hook(lambda module, inputs, output: found.append(output.logits.float()))
        try:
            with torch.no_grad(), forked_generators(self.session.processes.device):
                self.session.prepared.encoder.loss(self.model, self.batch)
        finally:
            handle.remove()
        return found


def _allocated(session: Session, checked: _Checked) -> list[StoredRows]:
    """The stored rows, not filled yet, in a file that all ranks have opened and that has no name any more.

    Raises:
        _NoCache: the disk has no room.
    """
    processes, kind = session.processes, session.prepared.task.kind
    splits = cached_splits(session.prepared)
    offsets = [prefix_offsets(encoded, kind) for encoded in splits]
    counts = [int(each[-1]) for each in offsets]
    values = sum(counts) * checked.width
    path, size = session.folder.path / _FILE, values * checked.dtype.itemsize

    def reserve() -> Path:
        try:
            return _reserved(path, size) if processes.main else path
        except OSError as error:
            path.unlink(missing_ok=True)
            what = f"{byte_size(size)} cannot be written to {session.folder.path}"
            raise _NoCache(f"{what}: {error.strerror}") from None

    file = str(_on_all_ranks(session, reserve))
    whole = torch.from_file(file, shared=True, size=values, dtype=checked.dtype).view(-1, checked.width)
    processes.barrier()
    if processes.main:
        path.unlink()
    parts = whole.split(counts)
    return [StoredRows(*each) for each in zip(splits, offsets, parts, strict=True)]


def _reserved(path: Path, size: int) -> Path:
    """A file of zeros for the stored rows, whose space on the disk is reserved: writing to it later cannot fail.

    Raises:
        OSError: the disk has no room.
    """
    with path.open("wb") as file:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, size)
        else:  # macOS
            for start in range(0, size, _STEP):
                file.write(bytes(min(_STEP, size - start)))
    return path


def _fill(session: Session, prefix: Prefix, stored: StoredRows, stop: StopSignal) -> None:
    """Compute and store the states of all rows of a split, in the batches of an evaluation. Each rank takes a share."""
    runtime, encoder = session.runtime, session.prepared.encoder
    device = session.processes.device

    def compute(rows: Sequence[int]) -> Sequence[int]:
        with runtime.without_gradients():
            inputs = encoder.collate(stored.encoded, np.array(rows)).to(device).inputs
            states = hidden_states(output_of(prefix.blocks[-1], lambda: output_without_cache(runtime.model, inputs)))
        stored.write(rows, states.cpu())
        return rows

    size = evaluation_batch_size(runtime, session.state.micro_batch_size)
    forward_rows(runtime, stored.encoded, compute, size, stop)
