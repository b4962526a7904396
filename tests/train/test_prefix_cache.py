"""Training with stored states of the first layers: the same results, and where it does not apply."""

from __future__ import annotations

import errno
import os
import signal
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AlbertConfig, AlbertModel

from red_cli.edit.adapter_config import WEIGHTS_FILE
from red_cli.edit.repeated_layers import stacks
from red_cli.inference.predict import predict
from red_cli.tasks.base import Prediction
from red_cli.train import loop, prefix_cache
from tests.conftest import Outcome
from tests.end_to_end.test_instruction_tuning import talk_data, talking_base
from tests.end_to_end.test_text_tasks import completions, write_jsonl
from tests.tiny import make_base, make_data, make_language_model, read_lines
from tests.train.started import train

NO_DROPOUT = "model.dropout=0"
EDITED = ["red.layers='2:'", NO_DROPOUT, "train.num_train_epochs=2", "train.batch_size=16",
          "train.micro_batch_size=8", "train.learning_rate=0.02", "train.logging_steps=1", "eval.untuned=false",
          "launch.strategy=single"]  # fmt: skip
SHORT = ["eval.generation.max_new_tokens=4", "data.max_length=64"]
CACHE = "train.cache_prefix=true"


def texts(folder: Path) -> Path:
    folder.mkdir()
    for seed, (split, count) in enumerate({"train": 32, "validation": 12}.items()):
        write_jsonl(folder / f"{split}.jsonl", completions(count, seed))
    return folder


def talks(folder: Path) -> Path:
    folder.mkdir()
    return talk_data(folder)


def rows(folder: Path) -> Path:
    return make_data(folder, 48, 20, 4)


def classified_by(model_type: str) -> tuple:
    return lambda folder: make_base(folder, model_type), rows, "classification"


def text_base(model_type: str, **settings: object) -> Callable[[Path], Path]:
    return lambda folder: make_language_model(folder, model_type, **settings)


# name -> base, data, task, keys, the layers of the prefix that run, how far losses may be apart
ROUNDED, HALF = 1e-6, 2e-2
CASES = {
    "bert": (*classified_by("bert"), [], 0, ROUNDED),
    "roberta": (*classified_by("roberta"), [], 0, ROUNDED),
    "deberta": (*classified_by("deberta-v2"), [], 0, ROUNDED),
    "head dropout": (*classified_by("bert"), ["model.classifier_dropout=0.2"], 0, ROUNDED),
    "checkpointed": (*classified_by("bert"), ["train.gradient_checkpointing=true"], 0, ROUNDED),
    "bfloat16": (*classified_by("bert"), ["train.bf16=true"], 0, HALF),
    "head": (*classified_by("bert"), ["method=head"], 0, ROUNDED),
    "t5": (text_base("t5", letters=True), rows, "classification", ["task.text_to_text=true"], 1, ROUNDED),
    "gpt2": (text_base("gpt2"), texts, "generation", SHORT, 0, ROUNDED),
    "bart": (text_base("bart"), texts, "generation", SHORT, 0, ROUNDED),
    "llama": (talking_base, talks, "instruction", SHORT, 0, ROUNDED),
    "packed": (talking_base, talks, "instruction", [*SHORT, "train.packing=true"], 0, ROUNDED),
}  # fmt: skip


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> Callable[[], Counter]:
    """The forward passes of each layer of the first stack in training and in its evaluations; resets them."""
    counts = Counter[int]()
    real = loop.run_steps

    def run_steps(session):
        for number, block in enumerate(stacks(session.model)[0]):
            inner = next(module for module in block.modules() if not list(module.children()))
            inner.register_forward_hook(lambda *_, number=number: counts.update([number]))
        assert not list(session.folder.path.glob(".*.tmp"))  # the file has lost its name
        yield from real(session)

    monkeypatch.setattr(loop, "run_steps", run_steps)

    def take() -> Counter:
        found = Counter(counts)
        counts.clear()
        return found

    return take


def trained(run: Path) -> dict[str, torch.Tensor]:
    (file,) = (run / "adapter").glob("*.safetensors")
    return load_file(file)


def logged(run: Path, ending: str = "loss") -> list[float]:
    return [value for line in read_lines(run / "log.jsonl") for key, value in line.items() if key == ending]


SLOW = ("roberta", "head dropout", "bfloat16", "bart", "llama")


@pytest.mark.parametrize("case", [pytest.param(case, marks=[pytest.mark.slow] * (case in SLOW)) for case in CASES])
def test_results_are_those_without_the_cache(red, tmp_path: Path, passes: Callable[[], Counter], case: str) -> None:
    base, data, task, keys, computed, apart = CASES[case]
    named = [f"model.name_or_path={base(tmp_path / 'base')}", f"data.path={data(tmp_path / 'data')}"]
    counts, outcomes = {}, {}
    for run, own in (("without", []), ("with", [CACHE])):
        outcomes[run] = red("train", task, *named, *EDITED, *keys, *own, f"output.dir={tmp_path / run}", "--json")
        assert outcomes[run].code == 0, outcomes[run].err
        assert "cache_prefix has no effect" not in outcomes[run].err
        counts[run] = passes()
    runs = {run: tmp_path / run for run in outcomes}
    assert logged(runs["with"]) == pytest.approx(logged(runs["without"]), rel=apart, abs=apart)
    assert len(logged(runs["with"])) >= 4
    splits = [outcome.json["splits"]["validation"] for outcome in outcomes.values()]
    assert splits[1] == pytest.approx(splits[0], rel=10 * apart, abs=10 * apart)
    tensors, expected = (trained(runs[run]) for run in ("with", "without"))
    for name, tensor in tensors.items():
        assert torch.allclose(tensor, expected[name], atol=100 * apart), name
    # Of the layers before the edited one only those run that others need
    prefix = 3 if "method=head" in keys else 2
    every = counts["without"][0]
    assert every > 4
    generating = 2 if case == "t5" else 0  # evaluations by generated texts
    rest = [generating] * (prefix - computed)
    assert [counts["with"][number] for number in range(prefix)] == [every] * computed + rest
    assert counts["with"][2] == (0 if prefix == 3 else counts["without"][2])
    assert not list(runs["with"].glob(".*.tmp"))


def test_evaluations_are_the_same_to_the_bit(red, recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their states come from batches of the same rows."""
    found: list[list[Prediction]] = []

    def predict_both(session):
        prepared = session.prepared
        for runtime in (session.runtime, replace(session.runtime, prefix=None)):
            found.append(predict(prepared.encoder, prepared.selection, runtime, micro_batch_size=8, final=False))
        return real(session)

    real = loop.run_steps
    monkeypatch.setattr(loop, "run_steps", predict_both)
    assert red("train", recipe, "red.layers='2:'", NO_DROPOUT, CACHE, "train.micro_batch_size=8").code == 0
    assert len(found[0]) == 40
    assert found[0] == found[1]


def test_a_resumed_run_ends_in_the_same_adapter(red, recipe: Path, tmp_path: Path, monkeypatch) -> None:
    """Bit for bit: the states are computed again, in the same batches."""
    keys = ["red.layers='2:'", NO_DROPOUT, CACHE]
    assert red("train", recipe, *keys, f"output.dir={tmp_path / 'whole'}").code == 0
    real_step = loop.optimizer_step

    def step(session, rows):
        result = real_step(session, rows)
        if session.state.step + 1 == 8:
            os.kill(os.getpid(), signal.SIGINT)
        return result

    with monkeypatch.context() as patch:
        patch.setattr(loop, "optimizer_step", step)
        assert red("train", recipe, *keys).code == 130
    resumed = red("train", recipe, *keys)
    assert resumed.code == 0
    assert "from step 8 of 12" in resumed.err
    ends = [(tmp_path / run / "adapter" / WEIGHTS_FILE).read_bytes() for run in ("run", "whole")]
    assert ends[0] == ends[1]
    # The key does not make another run
    assert red("train", recipe, *keys[:2]).code == 0


OBSTACLES = {
    "an edit in the first layer": (["red.layers=all"], "first layer"),
    "everything trains": (["method=full"], "first layer"),
    "dropout": (["red.layers='2:'"], "embeddings.dropout"),
    "one epoch": (["red.layers='2:'", NO_DROPOUT, "train.num_train_epochs=1"], "twice"),
    "a sharded base": (["red.layers='2:'", NO_DROPOUT, "launch.strategy=zero2"], "zero2"),
    "other machines": (["red.layers='2:'", NO_DROPOUT, "launch={strategy: ddp, num_machines: 2, num_processes: 2,"
                        " main_process_ip: x, main_process_port: 29500}"], "machine"),
}  # fmt: skip


@pytest.mark.parametrize("case", OBSTACLES)
def test_check_says_why_it_does_not_apply(red, recipe: Path, case: str) -> None:
    keys, fact = OBSTACLES[case]
    plan = red("check", recipe, *keys, CACHE, "--json").json["plan"]
    assert fact in plan["prefix"]["obstacle"]
    (note,) = [note for note in plan["notes"] if note.startswith("train.cache_prefix has no effect")]
    assert fact in note
    assert red("check", recipe, *keys, "--json").json["plan"]["prefix"] is None


def test_check_foretells_the_size(red, recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tokens of both splits times 32 values of 4 bytes."""
    keys = ["red.layers='2:'", NO_DROPOUT, CACHE]
    plan = red("check", recipe, *keys, "--json").json["plan"]
    sizes: list[int] = []
    real = prefix_cache._reserved
    monkeypatch.setattr(prefix_cache, "_reserved", lambda path, size: (sizes.append(size), real(path, size))[1])
    assert red("train", recipe, *keys).code == 0
    assert plan["prefix"] == {"layers": 2, "size": sizes[0], "obstacle": None}
    assert "2 layers" in red("check", recipe, *keys).out


def full(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk(red, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the run, or in it: a line says so, and the run is the one without the cache."""
    keys = ["red.layers='2:'", NO_DROPOUT]
    assert red("train", recipe, *keys, f"output.dir={tmp_path / 'without'}").code == 0
    with monkeypatch.context() as patch:
        patch.setattr("red_cli.plan.prefix_plan.free_space", lambda folder: 2**30)
        assert "1.00 GiB are free" in red("check", recipe, *keys, CACHE, "--json").json["plan"]["prefix"]["obstacle"]
    monkeypatch.setattr(os, "posix_fallocate", full, raising=False)
    outcome = red("train", recipe, *keys, CACHE)
    assert outcome.code == 0
    assert says_why(outcome, "No space left")
    ends = [(tmp_path / run / "adapter" / WEIGHTS_FILE).read_bytes() for run in ("run", "without")]
    assert ends[0] == ends[1]
    assert not list((tmp_path / "run").glob(".*.tmp"))


def test_a_model_that_computes_something_else_has_no_cache(red, recipe: Path, tmp_path: Path, base: Path) -> None:
    """ALBERT calls one layer several times."""
    config = AlbertConfig(vocab_size=23, embedding_size=16, hidden_size=32, num_hidden_layers=3, num_attention_heads=4,
                          intermediate_size=64, max_position_embeddings=64, initializer_range=0.2)  # fmt: skip
    AlbertModel(config).save_pretrained(tmp_path / "albert")
    for file in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / "albert" / file).write_bytes((base / file).read_bytes())
    outcome = red("train", recipe, f"model.name_or_path={tmp_path / 'albert'}", "method=head", NO_DROPOUT, CACHE)
    assert outcome.code == 0
    assert says_why(outcome, "something else")


def says_why(outcome: Outcome, fact: str) -> bool:
    """Whether one line says why there is no cache."""
    lines = [" ".join(outcome.err.split())]
    return lines[0].count("train.cache_prefix has no effect") == 1 and fact in lines[0]


@pytest.mark.slow  # starts several processes
def test_two_processes_share_the_states(red, recipe: Path, tmp_path: Path) -> None:
    keys = ["red.layers='2:'", NO_DROPOUT, "train.micro_batch_size=4"]
    assert red("train", recipe, *keys, f"output.dir={tmp_path / 'one'}").code == 0
    code, _, err = train(recipe, tmp_path / "two", *keys, CACHE, "launch.num_processes=2")
    assert code == 0, err
    assert "cache_prefix has no effect" not in err
    assert logged(tmp_path / "one") == pytest.approx(logged(tmp_path / "two"), rel=1e-5)
    tensors = trained(tmp_path / "two")
    for name, tensor in trained(tmp_path / "one").items():
        assert torch.allclose(tensor, tensors[name], atol=1e-4), name
