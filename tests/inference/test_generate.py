"""Batched generation equals generation of single prompts; it decodes each distinct prompt once, and resumes."""

from __future__ import annotations

import json
import random
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from transformers import AutoTokenizer, GenerationConfig

from red_cli import RedConfig, attach
from red_cli.edit.attached_adapters import edits
from red_cli.edit.fold import folded
from red_cli.edit.model_kinds import DECODER
from red_cli.errors import RunFailed
from red_cli.inference.generate import Decoder, ResumableOutput, generation_config
from red_cli.inference.runtime import Runtime
from red_cli.recipe.sections import Decoding
from red_cli.runs.events import NullListener
from red_cli.tasks.base import Base
from red_cli.tasks.special_ids import SpecialIds
from tests.failures import fails
from tests.tiny import DECODERS, SEQ2SEQ, VOCABULARY, make_language_model, random_vectors, tiny_model

END = 3
OPTIONS = {
    "greedy": {},
    "beams": {"num_beams": 4, "length_penalty": 0.9, "no_repeat_ngram_size": 4},
    "settled": {"num_beams": 3, "early_stopping": True},
    "penalties": {"repetition_penalty": 1.3, "no_repeat_ngram_size": 2, "min_new_tokens": 3},
}


def prompts(seed: int = 0, count: int = 9) -> list[list[int]]:
    """Prompts of different lengths, some of them repeated."""
    draw = random.Random(seed)
    made = [[draw.randrange(5, len(VOCABULARY)) for _ in range(draw.randint(1, 9))] for _ in range(count)]
    return [*made, made[0], made[2]]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory):
    return AutoTokenizer.from_pretrained(make_language_model(tmp_path_factory.mktemp("base") / "gpt2"))


def decoder(model, tokenizer, batch_size: int | None = 4, **changes: object) -> Decoder:
    """A decoder of `changes["options"]`; `tick` and `note` replace the listener's methods."""
    listener = NullListener()
    for name, method in (("tick", "decoding"), ("note", "note")):
        if name in changes:
            setattr(listener, method, changes[name])
    recipe = SimpleNamespace(
        train=SimpleNamespace(seed=changes.get("seed", 1), bf16=False), eval=SimpleNamespace(batch_size=batch_size)
    )
    runtime = Runtime(model, Base(model.config, tokenizer, 64, DECODER), recipe, listener)
    return Decoder(runtime, Decoding(**changes.get("options", {})), changes.get("resumable"))


def ends_of(model_type: str, padding: int = 0) -> SpecialIds:
    start = {"t5": 0, "mt5": 0, "umt5": 0, "longt5": 0}.get(model_type, 2) if model_type in SEQ2SEQ else None
    return SpecialIds(END, padding, start)


def each_alone(model, rows: list[list[int]], ends: SpecialIds, options: dict, most: int) -> list[list[int]]:
    """The ids that transformers generates for each single prompt."""
    answers = {tuple(row): one_at_a_time(model, list(row), ends, options, most) for row in {*map(tuple, rows)}}
    return [answers[tuple(row)] for row in rows]


def one_at_a_time(model, row: list[int], ends: SpecialIds, options: dict, most: int) -> list[int]:
    config = GenerationConfig(
        **options, max_new_tokens=most, eos_token_id=ends.end, pad_token_id=ends.padding,
        decoder_start_token_id=ends.decoder_start,
    )  # fmt: skip
    model.generation_config = GenerationConfig()
    written = model.generate(torch.tensor([row]), generation_config=config)[0].tolist()
    ids = written[1:] if model.config.is_encoder_decoder else written[len(row) :]
    return ids[: ids.index(END)] if END in ids else ids


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS.keys())
@pytest.mark.parametrize("model_type", ["gpt2", "llama", "t5"])
def test_same_as_one_at_a_time(model_type: str, options: dict, tokenizer) -> None:
    model, rows = tiny_model(model_type), prompts(count=6)
    attach(model, RedConfig(positions=["ffn"]))
    random_vectors(model)
    expected = each_alone(model, rows, ends_of(model_type), options, 12)
    for name, padding in {"own padding": 0, "end as padding": END}.items():
        found = decoder(model, tokenizer, options=options).generate(rows, ends_of(model_type, padding), 12)
        texts = [tokenizer.decode(ids, skip_special_tokens=True) for ids in expected]
        assert [text.text for text in found] == texts, name
        assert [text.finished for text in found] == [len(ids) < 12 for ids in expected], name


@pytest.mark.parametrize("model_type", [*DECODERS, *SEQ2SEQ])
def test_batches_of_every_architecture(model_type: str, tokenizer) -> None:
    """Left padding of decoders, right padding of encoders, and a shared prompt cache change nothing."""
    model, ends, options, rows = tiny_model(model_type), ends_of(model_type), {"num_beams": 3}, prompts(count=5)
    found = decoder(model, tokenizer, batch_size=16, options=options).generate(rows, ends, 6)
    expected = each_alone(model, rows, ends, options, 6)
    assert [text.text for text in found] == [tokenizer.decode(ids, skip_special_tokens=True) for ids in expected]


def test_each_distinct_prompt_is_decoded_once_and_long_ones_first(tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    model, seen, reported = tiny_model("gpt2"), [], []
    real = type(model).generate

    def generate(self, **inputs):
        seen.append(inputs["attention_mask"].sum(1).tolist())
        return real(self, **inputs)

    monkeypatch.setattr(type(model), "generate", generate)
    decoder(model, tokenizer, tick=lambda done, total, tokens: reported.append((done, total))).generate(
        prompts(), SpecialIds(END, 0), 3
    )
    lengths = [length for batch in seen for length in batch]
    assert lengths == sorted((len(row) for row in prompts()[:9]), reverse=True)
    assert [len(batch) for batch in seen] == [4, 4, 1]
    assert reported == [(0, 9), (4, 9), (8, 9), (9, 9)]


def test_drawn_texts_are_the_seeds_and_no_two_rows_share_one(tokenizer) -> None:
    model, rows = tiny_model("gpt2"), prompts()[:1] * 6
    options = {"do_sample": True, "temperature": 2.0, "top_k": 0}
    state = torch.get_rng_state()
    first, again, other = (
        decoder(model, tokenizer, options=options, seed=seed).generate(rows, SpecialIds(END, 0), 8)
        for seed in (1, 1, 2)
    )
    assert first == again != other
    assert len({text.text for text in first}) > 1
    assert torch.equal(torch.get_rng_state(), state)


def test_folding_leaves_no_trace(tokenizer) -> None:
    model = tiny_model("llama").train()
    attach(model, RedConfig(positions=["ffn", "attn"]))
    random_vectors(model)
    inputs = {"input_ids": torch.tensor(prompts()[:1])}
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    own = model.generation_config
    with torch.no_grad():
        expected = model(**inputs).logits
        with folded(model):
            changed = [
                name for name, tensor in model.state_dict().items() if not torch.equal(before.get(name, tensor), tensor)
            ]
            assert len(changed) == 6
            assert not any(module._forward_hooks for path, module in model.named_modules() if path.endswith("_proj"))
            torch.testing.assert_close(model(**inputs).logits, expected, atol=1e-5, rtol=1e-5)
        assert torch.equal(model(**inputs).logits, expected)
    decoder(model, tokenizer).generate(prompts(), SpecialIds(END, 0), 4)
    after = model.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert model.training
    assert model.generation_config is own
    assert {path for path, _ in edits(model)} == set(model.red_attachment.hooks)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_only_what_is_exact_is_folded(dtype: torch.dtype) -> None:
    model = tiny_model("gpt2").to(dtype)
    attach(model, RedConfig(positions=["ffn"]))
    random_vectors(model)
    weight = model.transformer.h[0].mlp.c_proj.weight.clone()
    with folded(model):
        same = torch.equal(model.transformer.h[0].mlp.c_proj.weight, weight)
    assert same == (dtype == torch.bfloat16)


@pytest.mark.parametrize("stop_after", [1, 2])
@pytest.mark.parametrize("options", [{"num_beams": 3}, {"do_sample": True}], ids=["beams", "sampling"])
def test_an_interrupted_decoding_resumes(tokenizer, tmp_path: Path, stop_after: int, options: dict) -> None:
    model, ends, notes, ticks = tiny_model("gpt2"), SpecialIds(END, 0), [], []
    whole = decoder(model, tokenizer, options=options).generate(prompts(), ends, 6)
    resumable = ResumableOutput(tmp_path / "predictions" / "test.partial.jsonl", "this model")

    def stop(done: int, total: int, tokens: int) -> None:
        ticks.append(done)
        if len(ticks) > stop_after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        decoder(model, tokenizer, options=options, tick=stop, resumable=resumable).generate(prompts(), ends, 6)
    with resumable.path.open("a") as file:
        file.write('{"place": 8, "te')  # killed while writing
    ticks.clear()
    resumed = decoder(
        model,
        tokenizer,
        options=options,
        tick=lambda done, total, tokens: ticks.append(done),
        note=notes.append,
        resumable=resumable,
    )
    assert resumed.generate(prompts(), ends, 6) == whole
    assert ticks[0] == 4 * stop_after
    assert notes[0].startswith(f"Resuming: {4 * stop_after} of ")
    texts = [json.loads(line) for line in resumable.path.read_text().splitlines()][1:]
    assert len(texts) == (len(prompts()) if "do_sample" in options else 9)


@pytest.mark.parametrize("change", ["model", "options", "prompts"])
def test_what_others_decoded_is_not_taken(tokenizer, tmp_path: Path, change: str) -> None:
    model, ends, path = tiny_model("gpt2"), SpecialIds(END, 0), tmp_path / "x.jsonl"
    decoder(model, tokenizer, resumable=ResumableOutput(path, "this")).generate(prompts(), ends, 6)
    notes: list[str] = []
    again = decoder(
        model,
        tokenizer,
        note=notes.append,
        resumable=ResumableOutput(path, "other" if change == "model" else "this"),
        options={"num_beams": 2} if change == "options" else {},
    )
    again.generate(prompts(seed=1 if change == "prompts" else 0), ends, 6)
    assert not notes


def test_the_batch_shrinks_until_it_fits(tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    model, sizes = tiny_model("gpt2"), []
    whole = decoder(model, tokenizer).generate(prompts(), SpecialIds(END, 0), 5)
    real, fitting = type(model).generate, 2

    def generate(self, **inputs):
        sizes.append(len(inputs["input_ids"]))
        if sizes[-1] > fitting:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(self, **inputs)

    monkeypatch.setattr(type(model), "generate", generate)
    assert decoder(model, tokenizer, batch_size=None).generate(prompts(), SpecialIds(END, 0), 5) == whole
    assert sizes == [9, 5, 3, 2, 2, 2, 2, 1]
    fitting = 0
    with fails("out-of-memory", "eval.generation.num_beams", kind=RunFailed):
        decoder(model, tokenizer).generate(prompts(), SpecialIds(END, 0), 5)


def test_more_tokens_at_least_than_at_most() -> None:
    """The maximum may be known only after the data are read, since the longest label sets it."""
    assert generation_config(Decoding(min_new_tokens=8), SpecialIds(END, 0), 8).min_new_tokens == 8
    with fails("too-long", "min_new_tokens is 9", "8 tokens"):
        generation_config(Decoding(min_new_tokens=9), SpecialIds(END, 0), 8)
