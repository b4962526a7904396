"""Batched generation: deduplicated prompts, longest first, in batches that fit into memory, resumable."""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache, GenerationConfig, PreTrainedModel

from red_cli.base_model.prepare import uses_bf16
from red_cli.distributed.device import forked_generators
from red_cli.edit.fold import folded
from red_cli.errors import RunFailed, UserError
from red_cli.files import write_text
from red_cli.inference.decoding_memory import most_at_once
from red_cli.inference.logits_processors import penalties
from red_cli.inference.runtime import Runtime
from red_cli.inference.shared_rows import NEVER_STOP, SharedRows, StopSignal
from red_cli.recipe.sections import Decoding
from red_cli.tasks.base import Generated
from red_cli.tasks.special_ids import SpecialIds, text_without_special_ids

Ids = Sequence[int]


class ResumableOutput:
    """The file that `generate` writes texts to, from which an interrupted decoding resumes.

    Args:
        path: the file: a line that identifies the decoding, then a line for each text.
        model: the model's identity.
    """

    def __init__(self, path: Path, model: str) -> None:
        self.path, self.model = path, model

    def open(self, prompts: Sequence[Ids], options: str) -> dict[int, list[int]]:
        """Index of a prompt -> ids of its text in the file; a file of other prompts, options or model is replaced."""
        about = json.dumps([self.model, options, [list(prompt) for prompt in prompts]])
        key = {"decoding": hashlib.sha256(about.encode()).hexdigest()}
        lines = self._lines()
        kept: list[dict[str, Any]] = lines if lines and lines[0] == key else [key]
        write_text(self.path, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in kept))
        return {int(line["place"]): line["ids"] for line in kept[1:]}

    def add(self, place: int, ids: list[int], text: str) -> None:
        """Add one text."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"place": place, "text": text, "ids": ids}, ensure_ascii=False) + "\n")

    def remove(self) -> None:
        """Delete the file."""
        self.path.unlink(missing_ok=True)

    def _lines(self) -> list[dict[str, Any]]:
        """The lines up to the first incomplete one."""
        complete: list[dict[str, Any]] = []
        if self.path.is_file():
            with contextlib.suppress(ValueError):
                for line in self.path.read_text(encoding="utf-8", errors="replace").split("\n")[:-1]:
                    complete.append(json.loads(line))
        return complete


@dataclass(frozen=True)
class Decoder:
    """Generates texts with a model. The recipe's eval.batch_size (None: as many as fit) and train.seed apply.

    Attributes:
        resumable: stores texts while they are generated; None stores nothing.
        stop: ends the decoding between batches, by raising on all ranks.
    """

    runtime: Runtime
    options: Decoding
    resumable: ResumableOutput | None = None
    stop: StopSignal = NEVER_STOP

    @property
    def fold(self) -> bool:
        """Whether folding the edits is exact within the precision of forward passes."""
        return not uses_bf16(self.runtime.recipe.train) and not self.runtime.sharded

    def generate(self, prompts: Sequence[Ids], ends: SpecialIds, max_new_tokens: int) -> list[Generated]:
        """Generate a text for each prompt, in the prompts' order, without special tokens and outer spaces.

        A repeated prompt is decoded once, unless tokens are sampled.

        Raises:
            RunFailed: not even one prompt fits into memory.
        """
        distinct: dict[Any, Ids] = {}
        keys = [row if self.options.do_sample else tuple(prompt) for row, prompt in enumerate(prompts)]
        for key, prompt in zip(keys, prompts, strict=True):
            distinct.setdefault(key, prompt)
        found = self._decode_all(list(distinct.values()), ends, max_new_tokens)
        by_key = {
            key: Generated(self._text(ids, ends), ends.end in ids) for key, ids in zip(distinct, found, strict=True)
        }
        return [by_key[key] for key in keys]

    def _decode_all(self, prompts: list[Ids], ends: SpecialIds, max_new_tokens: int) -> list[list[int]]:
        model, processes, recipe = self.runtime.model, self.runtime.processes, self.runtime.recipe
        config = generation_config(self.options, ends, max_new_tokens)
        resumable = self.resumable if processes.main else None
        about = f"{self.options!r} {config!r} {recipe.train.seed}"
        there = {} if resumable is None else resumable.open(prompts, about)
        fitting = most_at_once(self.runtime, [*map(len, prompts)], self.options.num_beams, max_new_tokens)
        (there, _), *_ = starts = processes.gather((there, fitting))
        size = recipe.eval.batch_size or min(most for _, most in starts)
        if there:
            self.runtime.listener.note(f"Resuming: {len(there):,} of {len(prompts):,} prompts are already decoded.")
        seen, tokens = set(there), 0

        def show(decoded_texts: list[tuple[int, list[int]]]) -> None:
            nonlocal tokens
            for place, ids in decoded_texts:
                if place not in seen:
                    seen.add(place)
                    tokens += len(ids)
                    if resumable is not None:
                        resumable.add(place, ids, self._text(ids, ends))
            self.runtime.listener.decoding(len(seen), len(prompts), tokens)

        work = SharedRows(
            processes=processes,
            compute=lambda places: self._decode([prompts[place] for place in places], config, ends, places[0]),
            summary=lambda part: list(part.items()),
            done=show,
            lockstep=self.runtime.sharded,
            not_even_one=_not_even_one,
            stop=self.stop,
        )
        order = sorted((place for place in range(len(prompts)) if place not in there), key=lambda at: -len(prompts[at]))
        with eval_mode(model), folded(model) if self.fold else contextlib.nullcontext():
            show([])
            # Tokens are drawn for a batch together: batches of a given size draw the texts of a single process
            if self.options.do_sample and recipe.eval.batch_size is None:
                size = max(1, min(size, -(-len(order) // processes.count)))
            found = there | work.results(order, size, unit=size if self.options.do_sample else 1)
        return [found[place] for place in range(len(prompts))]

    def _decode(self, prompts: list[Ids], config: GenerationConfig, ends: SpecialIds, first: int) -> list[list[int]]:
        """Generate one batch: the ids of each text up to its end token, included."""
        model, sharded = self.runtime.model, self.runtime.sharded
        encoder_decoder = model.config.is_encoder_decoder
        inputs = _padded(prompts, ends.padding, left=not encoder_decoder)
        inputs = {name: tensor.to(model.device) for name, tensor in inputs.items()}
        padding = (1 - inputs["attention_mask"]).sum(1) * int(not encoder_decoder)  # of the decoder's input
        against_repetition = penalties(self.options.repetition_penalty, self.options.no_repeat_ngram_size, padding)
        forked = forked_generators(model.device) if self.options.do_sample else contextlib.nullcontext()
        with self.runtime.without_gradients(), forked:
            if self.options.do_sample:
                torch.manual_seed(self.runtime.recipe.train.seed + first)
            read = {} if encoder_decoder or sharded else _prefill(model, inputs, self.options.num_beams)
            written = model.generate(
                **inputs, **read, generation_config=config, logits_processor=against_repetition,
                synced_gpus=sharded,
            )  # fmt: skip
        start = 1 if encoder_decoder else inputs["input_ids"].shape[1]
        return [_until_end(row, ends.end) for row in written[:, start:].tolist()]

    def _text(self, ids: list[int], ends: SpecialIds) -> str:
        kept = ids[:-1] if ids and ids[-1] == ends.end else ids
        return text_without_special_ids(self.runtime.tokenizer, kept)


def _not_even_one() -> RunFailed:
    return RunFailed(
        "out-of-memory",
        "not even one prompt fits into memory while decoding",
        hint="Lower eval.generation.num_beams or eval.generation.max_new_tokens.",
    )


def generation_config(options: Decoding, ends: SpecialIds, max_new_tokens: int) -> GenerationConfig:
    """The recipe's options for transformers, except those of `penalties`.

    Raises:
        UserError: eval.generation.min_new_tokens is more than `max_new_tokens`.
    """
    if options.min_new_tokens > max_new_tokens:
        least = f"eval.generation.min_new_tokens is {options.min_new_tokens}"
        raise UserError("too-long", f"{least}, but a text has at most {max_new_tokens} tokens")
    always = ("num_beams", "do_sample")
    beams = ("length_penalty", "early_stopping") if options.num_beams > 1 else ()
    sampling = ("temperature", "top_k", "top_p") if options.do_sample else ()
    return GenerationConfig(
        **{name: getattr(options, name) for name in (*always, *beams, *sampling)},
        max_new_tokens=max_new_tokens,
        min_new_tokens=options.min_new_tokens or None,
        eos_token_id=ends.end,
        pad_token_id=ends.padding,
        decoder_start_token_id=ends.decoder_start,
    )


@contextmanager
def eval_mode(model: PreTrainedModel) -> Iterator[None]:
    """To generate in the block: dropout is off, and the generation options of the model's files are ignored."""
    training, own = model.training, model.generation_config
    model.eval()
    model.generation_config = GenerationConfig()
    try:
        yield
    finally:
        model.generation_config = own
        model.train(training)


def _padded(prompts: list[Ids], filling: int, left: bool) -> dict[str, Tensor]:
    """Ids and attention mask, (prompts, longest)."""
    longest = max(len(prompt) for prompt in prompts)
    ids, mask = [], []
    for prompt in prompts:
        missing = longest - len(prompt)
        ids.append([*[filling] * missing, *prompt] if left else [*prompt, *[filling] * missing])
        mask.append([0] * missing + [1] * len(prompt) if left else [1] * len(prompt) + [0] * missing)
    return {"input_ids": torch.tensor(ids), "attention_mask": torch.tensor(mask)}


def _prefill(model: PreTrainedModel, inputs: dict[str, Tensor], beams: int) -> dict[str, Any]:
    """The cache of left-padded prompts without their last token, which `generate` would compute for every beam."""
    ids, mask = inputs["input_ids"][:, :-1], inputs["attention_mask"][:, :-1]
    if beams == 1 or not ids.numel():
        return {}
    taken = inspect.signature(type(model).forward).parameters
    positions = {"position_ids": (mask.cumsum(1) - 1).clamp(min=0)} if "position_ids" in taken else {}
    few_logits = {"logits_to_keep": 1} if "logits_to_keep" in taken else {}
    cache = model(input_ids=ids, attention_mask=mask, use_cache=True, **positions, **few_logits).past_key_values
    if not isinstance(cache, DynamicCache):
        return {}
    cache.batch_repeat_interleave(beams)
    return {"past_key_values": cache}


def _until_end(ids: list[int], end: int) -> list[int]:
    """The generated token ids up to and including the first end token."""
    return ids[: ids.index(end) + 1] if end in ids else ids
