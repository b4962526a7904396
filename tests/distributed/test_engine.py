"""A step of several ranks is that of one, by one message and one read; ranks are threads."""

from __future__ import annotations

import math
import threading
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from red_cli.distributed import engine as engine_module
from red_cli.distributed.engine import Replicated
from red_cli.distributed.process_group import Processes
from red_cli.distributed.step_numbers import NotFinite, OwnShare, StepResult
from tests.inference.ranks import on_ranks
from tests.reads import counted_reads

ITEMS = [3, 1, 4]  # labelled items of each rank
TARGETS = torch.arange(1.0, 1 + sum(ITEMS)).split(ITEMS)


class Model(nn.Module):
    """Three vectors: one for all ranks, one for the first rank alone, and one that nothing uses."""

    def __init__(self) -> None:
        super().__init__()
        self.shared, self.first, self.unused = (nn.Parameter(torch.full((2,), value)) for value in (0.1, 0.2, 0.3))

    def forward(self, targets: Tensor, first: bool) -> Tensor:
        """The sum of the items' losses."""
        outputs = self.shared.sum() + (self.first.sum() if first else 0.0)
        return ((targets - outputs) ** 2).sum()


class TrainedModel:
    """What the engine asks of a method's trained parameters."""

    def __init__(self, model: nn.Module) -> None:
        self.model, self.names = model, [name for name, _ in model.named_parameters()]

    def parameters(self, names: list[str]) -> list[nn.Parameter]:
        return [self.model.get_parameter(name) for name in names]


def engine_of(processes: Processes) -> Replicated:
    model = Model()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.1, fused=True)
    return Replicated(model, TrainedModel(model), optimizer, processes, sharded=False)  # type: ignore[arg-type]


def launched(engine: Replicated, shares: list[tuple[Tensor, bool]], stop: bool = False, weight: float | None = None):
    """A step over the items of some ranks, and whether each of them uses the first rank's vector."""
    weight = sum(len(targets) for targets, _ in shares) if weight is None else weight
    divisor, loss = engine.divisor(weight), torch.zeros(())
    for targets, first in shares:
        own = engine.model(targets, first) / divisor
        engine.backward(own)
        loss += own.detach()
    return engine.step(1.0, OwnShare(loss, weight, stop))


def values(engine: Replicated) -> dict[str, list[float]]:
    return {name: parameter.tolist() for name, parameter in engine.model.named_parameters()}


def alone(steps: int) -> tuple[list[StepResult], Replicated]:
    engine = engine_of(Processes())
    shares = [(targets, rank == 0) for rank, targets in enumerate(TARGETS)]
    return [launched(engine, shares).read() for _ in range(steps)], engine


def test_ranks_step_as_one_process_by_one_message() -> None:
    results, expected = alone(steps=3)

    def work(rank: Processes) -> Any:
        engine = engine_of(rank)
        own = [(TARGETS[rank.index], rank.index == 0)]
        return [launched(engine, own).read() for _ in results], engine

    found, meeting = on_ranks(len(ITEMS), work)
    assert meeting.collectives == len(results)
    for ranks_results, engine in found:
        for one, other in zip(ranks_results, results, strict=True):
            assert one.loss == pytest.approx(other.loss, rel=1e-6)
            assert one.gradient_norm == pytest.approx(other.gradient_norm, rel=1e-6)
            assert not one.stop
        for name, numbers in values(expected).items():
            assert values(engine)[name] == pytest.approx(numbers, rel=1e-6)
        assert values(engine)["unused"] == values(engine_of(Processes()))["unused"]  # not even its weight decays
        assert engine.model.unused not in engine.optimizer.state


@pytest.mark.parametrize("weight", [2**24 + 1, 2**35 + 3, 0.75])
def test_weights_are_exact(monkeypatch: pytest.MonkeyPatch, weight: float) -> None:
    sent: dict[int, list[float]] = {}

    def work(rank: Processes) -> None:
        engine, reduce = engine_of(rank), rank.all_reduce_

        def kept(tensors: list[Tensor]) -> None:
            reduce(tensors)
            sent[rank.index] = tensors[0].tolist()

        object.__setattr__(rank, "all_reduce_", kept)
        launched(engine, [(TARGETS[rank.index], True)], weight=weight)

    on_ranks(3, work)
    _, _, high, low, *_ = sent[0]
    assert high * engine_module._DIGIT + low == 3 * weight


@pytest.mark.parametrize("asked", [None, 0, 2])
def test_a_request_to_stop_reaches_all(asked: int | None) -> None:
    def work(rank: Processes) -> bool:
        return launched(engine_of(rank), [(TARGETS[rank.index], True)], stop=rank.index == asked).read().stop

    assert on_ranks(3, work)[0] == [asked is not None] * 3


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize(("target", "what"), [(math.nan, "loss nan"), (math.inf, "loss inf"), (1e38, "gradient norm")])
@pytest.mark.parametrize("skips", [True, False])
def test_a_step_that_is_not_finite_is_not_taken(
    monkeypatch: pytest.MonkeyPatch, count: int, target: float, what: str, skips: bool
) -> None:
    """Neither parameters nor optimiser change on any rank, whether the device or the host leaves the step out."""
    monkeypatch.setattr(engine_module, "skips_adamw", lambda device: skips)

    def work(rank: Processes) -> tuple[Any, ...]:
        engine = engine_of(rank)
        launched(engine, [(TARGETS[rank.index], True)]).read()
        before = values(engine), str(engine.optimizer.state_dict())
        bad = torch.tensor([target])
        numbers = launched(engine, [(bad if rank.index == count - 1 else TARGETS[rank.index], True)])
        with pytest.raises(NotFinite, match=what):
            numbers.read()
        return before, (values(engine), str(engine.optimizer.state_dict()))

    if what == "gradient norm":
        monkeypatch.setattr(Model, "forward", lambda self, targets, first: (self.shared * targets.max()).sum() * 2)
    for before, after in on_ranks(count, work)[0]:
        assert after == before


@pytest.mark.parametrize("count", [1, 2])
def test_a_step_is_read_once_and_after_its_launch(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    def work(rank: Processes) -> tuple[int, int]:
        engine, me = engine_of(rank), threading.get_ident()
        engine.parameters = [each for each in engine.parameters if each is not engine.model.unused]
        numbers = launched(engine, [(TARGETS[rank.index], True)])
        before = reads[me]
        numbers.read()
        return before, reads[me]

    with counted_reads(monkeypatch) as reads:
        assert on_ranks(count, work)[0] == [(0, 1)] * count
