"""Engines on two ranks that torchrun started, compared with each other and with plain torch."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from transformers import GPT2Config, GPT2LMHeadModel

from red_cli.distributed.data_parallel import DataParallel
from red_cli.distributed.engine import Engine, Replicated
from red_cli.distributed.process_group import Processes, join_processes
from red_cli.distributed.step_numbers import OwnShare
from red_cli.methods.method import Trained
from red_cli.recipe.sections import Launch
from red_cli.recipe.train_section import Train
from red_cli.tasks.text import token_loss

ROWS, LIMIT = 12, 0.5
STAGES = ("zero2", "zero3")


class Experts(nn.Module):
    """A model whose parameters do not all have a gradient in every step."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.never, self.last = nn.Linear(5, 6), nn.Linear(2, 2), nn.Linear(6, 3)
        self.experts = nn.ModuleList(nn.Linear(6, 6) for _ in range(3))

    def forward(self, rows: Tensor, expert: int) -> dict[str, Tensor]:
        return {"logits": self.last(self.experts[expert](self.first(rows).tanh()))}


def make(kind: Callable[[], nn.Module], weights: dict[str, Tensor] | None = None) -> Trained:
    torch.manual_seed(3)
    model: Any = kind()
    if weights is not None:
        model.load_state_dict(weights)
    return Trained(model, [], [name for name, _ in model.named_parameters()], [], 0)


def optimizer_of(trained: Trained) -> torch.optim.AdamW:
    """Two groups, the first of one parameter."""
    first, *others = trained.model.parameters()
    return torch.optim.AdamW([{"params": [first], "lr": 1e-2}, {"params": others, "lr": 1e-3}], weight_decay=0.1)


def rows_of(step: int) -> Tensor:
    return torch.randn(ROWS, 5, generator=torch.Generator().manual_seed(step))


def gradients_of(engine: Replicated, trained: Trained, processes: Processes) -> list[dict[str, Tensor | None]]:
    """The gradients of a few steps, in three micro-batches each, and the norm. Then the weights."""
    found: list[dict[str, Tensor | None]] = []
    trained.model(rows_of(0), expert=2)["logits"].sum().backward()  # as micro-batches are tried
    engine.optimizer.zero_grad()
    for step in range(4):
        own = rows_of(step)[processes.index :: processes.count]
        # The ranks use other experts: the last one in odd steps alone, by one rank, in its first micro-batch
        experts = (0, 1, 0) if processes.main else ((1, 2)[step % 2], 0, 0)
        share, divisor = torch.zeros(()), engine.divisor(len(own))
        for number, expert in enumerate(experts):
            engine.set_accumulation_boundary(last=number == 2)
            loss = engine.model(own[2 * number :][:2], expert=expert)["logits"].square().sum() / divisor
            engine.backward(loss * 0.0 if (step, number) == (3, 1) else loss)
            share += loss.detach()
        numbers = engine.reduce_and_clip_gradients(LIMIT, OwnShare(share, len(own))).read()
        named = trained.model.named_parameters()
        found.append({name: None if one.grad is None else one.grad.clone() for name, one in named})
        found[-1] |= {"norm": torch.tensor(numbers.gradient_norm), "loss": torch.tensor(numbers.loss)}
        engine.optimizer.step()
        engine.optimizer.zero_grad()
    return [*found, dict(trained.model.state_dict())]


def compare_data_parallel(processes: Processes) -> None:
    """DistributedDataParallel gives the gradients and weights of one all-reduce."""
    one, other = make(Experts), make(Experts)
    replicated = Replicated(one.model, one, optimizer_of(one), processes, sharded=False)
    expected = gradients_of(replicated, one, processes)
    found = gradients_of(DataParallel(other, optimizer_of(other), processes), other, processes)
    assert expected[0]["experts.2.weight"] is None
    assert expected[1]["experts.2.weight"] is not None
    for left, right in zip(expected, found, strict=True):
        assert left.keys() == right.keys()
        for name, value in left.items():
            assert (value is None) == (right[name] is None), name
            if value is not None:
                torch.testing.assert_close(right[name], value, rtol=1e-6, atol=1e-6)


def language_model() -> nn.Module:
    sizes = {"vocab_size": 50, "n_positions": 16, "n_embd": 8, "n_layer": 1, "n_head": 2}
    dropout = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    return GPT2LMHeadModel(GPT2Config(**sizes, **dropout, bos_token_id=0, eos_token_id=0))


def compare_token_losses(processes: Processes) -> None:
    """Chunks of logits still need the output layer alone, which trains outside of DistributedDataParallel's forward."""
    token_loss.CHUNK_BYTES = 4 * 4 * 50
    found = []
    for kind in (Replicated, DataParallel):
        trained, passes = make(language_model), []
        trained.model.get_decoder().register_forward_hook(lambda *_, passes=passes: passes.append(1))
        optimizer = optimizer_of(trained)
        if kind is DataParallel:
            engine: Replicated = DataParallel(trained, optimizer, processes)
        else:
            engine = Replicated(trained.model, trained, optimizer, processes, sharded=False)
        ids = torch.arange(30).reshape(2, 15) + processes.index
        positions = torch.arange(3, 30, 2)
        engine.set_accumulation_boundary(last=True)
        losses = token_loss.token_losses(engine.model, {"input_ids": ids}, positions, ids.flatten()[positions])
        assert len(passes) == 1
        loss = losses.sum() / engine.divisor(len(losses))
        engine.backward(loss)
        engine.reduce_and_clip_gradients(None, OwnShare(loss.detach(), len(losses)))
        found.append({name: one.grad for name, one in trained.model.named_parameters()})
    torch.testing.assert_close(found[1], found[0], rtol=1e-6, atol=1e-6)


def small() -> nn.Module:
    return nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 3))


def steps_of(engine: Engine, processes: Processes, steps: range) -> list[float]:
    norms = []
    for step in steps:
        own = rows_of(step)[processes.index :: processes.count]
        share, divisor = torch.zeros(()), engine.divisor(len(own))
        for number, part in enumerate(own.split(4)):
            engine.set_accumulation_boundary(last=number == 1)
            loss = engine.model(part).square().sum() / divisor
            engine.backward(loss)
            share += loss.detach()
        norms.append(engine.step(LIMIT, OwnShare(share, len(own))).read().gradient_norm)
    return norms


def weights_of(engine: Engine, trained: Trained) -> dict[str, Tensor]:
    with engine.gathered_parameters():
        return {name: value.clone() for name, value in trained.model.state_dict().items()}


def compare_zero(stage: str, processes: Processes) -> None:
    """A state of ZeRO is that of torch's AdamW, and another engine continues with it exactly."""
    from red_cli.distributed.deepspeed import Zero
    from red_cli.distributed.deepspeed_config import deepspeed_config

    config = deepspeed_config(Launch(strategy=stage), stage, Train(max_grad_norm=LIMIT))  # type: ignore[arg-type]

    def start(weights: dict[str, Tensor] | None = None) -> tuple[Trained, Zero]:
        trained = make(small, weights)
        return trained, Zero(trained.model, trained, optimizer_of(trained), processes, config, sharding=None)

    trained, engine = start()
    assert engine.optimizer_state()["state"] == {}
    norms = steps_of(engine, processes, range(3))
    weights, state = weights_of(engine, trained), engine.optimizer_state()
    norms += steps_of(engine, processes, range(3, 6))
    resumed, other = start(weights)
    other.load_optimizer_state(state)
    torch.testing.assert_close(other.optimizer_state(), state, rtol=0, atol=0)
    assert steps_of(other, processes, range(3, 6)) == norms[3:]
    torch.testing.assert_close(weights_of(other, resumed), weights_of(engine, trained), rtol=0, atol=0)
    torch.testing.assert_close(other.optimizer_state(), engine.optimizer_state(), rtol=0, atol=0)

    alone = make(small)
    single = Replicated(alone.model, alone, optimizer_of(alone), Processes(), sharded=False)
    assert all(abs(one - two) < 1e-5 for one, two in zip(steps_of(single, Processes(), range(6)), norms, strict=True))
    torch.testing.assert_close(weights_of(engine, trained), dict(alone.model.state_dict()), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(
        engine.optimizer_state()["state"], single.optimizer_state()["state"], rtol=1e-5, atol=1e-6
    )


if __name__ == "__main__":
    joined = join_processes(Launch())
    compare_data_parallel(joined)
    compare_token_losses(joined)
    for each in sys.argv[1:]:
        compare_zero(each, joined)
