"""Micro-batches: each row of a step once, at most the tried number of sequences, equally many on every rank."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from red_cli.distributed.process_group import Processes
from red_cli.tasks.text.encoder import TextEncoder
from red_cli.tasks.text.packing import collate_packs
from red_cli.train.session import Session
from tests.tasks.text.test_packing import encoded_texts


def session_over(
    lengths: list[int], size: int, packing: bool, by_length: bool, rank: int = 0, count: int = 1
) -> SimpleNamespace:
    """The part of a session that micro-batches need."""
    encoded = encoded_texts(lengths)
    encoder = Mock(spec=TextEncoder)
    encoder.collate = lambda rows, indices: SimpleNamespace(inputs={"input_ids": indices[:, None]})
    encoder.collate_packed = lambda rows, packs: collate_packs(rows, packs, padding=0, train_on_prompt=False)
    base = SimpleNamespace(config=SimpleNamespace(model_type="not in the table"))
    return SimpleNamespace(
        state=SimpleNamespace(micro_batch_size=size),
        prepared=SimpleNamespace(encoded={"train": encoded}, encoder=encoder, base=base),
        settings=SimpleNamespace(packing=packing, group_by_length=by_length),
        processes=Processes(rank, count),
    )


@st.composite
def steps(draw: st.DrawFn) -> dict[str, Any]:
    lengths = draw(st.lists(st.integers(1, 30), min_size=1, max_size=40))
    chosen = draw(st.sets(st.integers(0, len(lengths) - 1), min_size=1))
    return {
        "lengths": lengths,
        "rows": np.array(draw(st.permutations(sorted(chosen))), dtype=np.int64),
        "size": draw(st.integers(1, 12)),
        "count": draw(st.integers(1, 4)),
        "packing": draw(st.booleans()),
        "by_length": draw(st.booleans()),
    }


@given(steps())
@settings(derandomize=True, max_examples=150, deadline=None)
def test_micro_batches_of_a_step(step: dict[str, Any]) -> None:
    lengths = np.array(step["lengths"])
    ranks = []
    for rank in range(step["count"]):
        session = session_over(step["lengths"], step["size"], step["packing"], step["by_length"], rank, step["count"])
        ranks.append(Session.micro_batches(session, step["rows"]))  # type: ignore[arg-type]
    counted = [batch for batches in ranks for batch in batches if not batch.is_dummy]
    assert sorted(row for batch in counted for row in batch.rows.tolist()) == sorted(step["rows"].tolist())
    assert len({len(batches) for batches in ranks}) == 1
    longest = lengths[step["rows"]].max()
    for batch in (batch for batches in ranks for batch in batches):
        assert batch.sequences <= step["size"]
        collated = Session.collate(session, batch)  # type: ignore[arg-type]
        assert len(collated.inputs["input_ids"]) == batch.sequences
        if step["packing"]:
            assert batch.packs is not None
            assert max(lengths[pack].sum() for pack in batch.packs) <= longest
            assert np.array_equal(np.concatenate(batch.packs), batch.rows)


@given(st.lists(st.integers(1, 30), min_size=1, max_size=60), st.integers(1, 12), st.booleans())
@settings(derandomize=True, max_examples=100, deadline=None)
def test_the_size_is_tried_on_the_largest_micro_batch(lengths: list[int], size: int, packing: bool) -> None:
    """The tried micro-batch has the maximum number of sequences, with the longest row, packed if training packs."""
    size = min(size, len(lengths))
    session = session_over(lengths, size, packing, by_length=True)
    largest = Session.largest(session, size)  # type: ignore[arg-type]
    assert largest.sequences <= size
    assert max(lengths) in np.array(lengths)[largest.rows]
    if not packing:
        assert sorted(np.array(lengths)[largest.rows], reverse=True) == sorted(lengths, reverse=True)[:size]
    order = np.random.default_rng(0).permutation(len(lengths))
    for start in range(0, len(order), max(1, len(order) // 2)):
        rows = order[start : start + max(1, len(order) // 2)]
        tokens = [np.array(lengths)[batch.rows].sum() for batch in Session.micro_batches(session, rows)]  # type: ignore[arg-type]
        assert max(tokens) <= size * max(lengths)
