"""Bases and adapters of the kinds of model that PEFT has classes for; without PEFT these tests are skipped."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import PreTrainedModel

from red_cli import RedConfig, attach
from red_cli.edit.attached_adapters import active_adapter
from tests.extras import has_extra
from tests.tiny import first_output, random_vectors, tiny_inputs, tiny_model

# model type -> its task type in PEFT
TASKS = {"llama": "CAUSAL_LM", "gpt2": "CAUSAL_LM", "bert": "SEQ_CLS", "roberta": "SEQ_CLS", "t5": "SEQ_2_SEQ_LM"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not has_extra("baselines"):
        for item in items:
            if Path(__file__).parent in item.path.parents:
                item.add_marker(pytest.mark.skip(reason="needs the extra baselines"))


@dataclass
class Row:
    """A kind of model: its base's folder, an adapter that red wrote, and the outputs of both."""

    name: str
    base: Path
    adapter: Path
    plain: torch.Tensor
    edited: torch.Tensor
    kind: type[PreTrainedModel]

    @property
    def task(self) -> str:
        return TASKS[self.name]

    def load(self, **options: Any) -> PreTrainedModel:
        """The base; parameters that its files lack are random by another seed each time."""
        return self.kind.from_pretrained(self.base, **options).eval()

    def outputs(self, model: torch.nn.Module, **options: Any) -> torch.Tensor:
        with torch.inference_mode():
            return first_output(model.eval(), {**tiny_inputs(self.name), **options})


def change_head(model: PreTrainedModel) -> None:
    with torch.no_grad():
        for name in active_adapter(model).head:
            model.get_parameter(name).add_(0.1 * torch.randn_like(model.get_parameter(name)))


@pytest.fixture(scope="session")
def make_row(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Row]:
    """Make a kind of model once a session, by its model type."""

    @cache
    def make(name: str, components: tuple[str, ...] = ("scale", "bias")) -> Row:
        folder = tmp_path_factory.mktemp(name)
        model = tiny_model(name)
        model.save_pretrained(folder / "base")
        row = Row(name, folder / "base", folder / "adapter", torch.empty(0), torch.empty(0), type(model))
        model = row.load()
        row.plain = row.outputs(model)
        attach(model, RedConfig(components=list(components)))
        random_vectors(model)
        change_head(model)
        row.edited = row.outputs(model)
        model.save_pretrained(row.adapter)
        return row

    return make


@pytest.fixture(params=TASKS)
def row(request: pytest.FixtureRequest, make_row: Callable[[str], Row]) -> Row:
    return make_row(request.param)


@pytest.fixture
def unregistered(monkeypatch: pytest.MonkeyPatch) -> None:
    """PEFT as it is before `red_cli.peft` is imported."""
    from peft import mapping

    for table in ("CONFIG", "TUNER", "PREFIX"):
        monkeypatch.delitem(getattr(mapping, f"PEFT_TYPE_TO_{table}_MAPPING"), "RED", raising=False)


def fill(model: Any, adapter: str = "default", seed: int = 5) -> None:
    """Give an adapter of a PEFT model random vectors, the same as `random_vectors` gives."""
    from red_cli.peft import PeftEdit

    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, PeftEdit) and adapter in module.names():
                for part in (module.scale, module.bias):
                    if adapter in part:
                        part[adapter].add_(torch.randn(part[adapter].shape, generator=generator) * 0.3)
