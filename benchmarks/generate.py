"""Batched decoding against one row at a time, over the test inputs of E2E NLG.

    python benchmarks/generate.py --data FOLDER [--rows 40] [--threads 2] [--vocabulary 50257] [--max-new-tokens 64]

FOLDER holds train.parquet and test.parquet with the columns meaning_representation and human_reference. The model is a
random GPT-2 of 6 layers and width 384; beam 10, length penalty 0.9, no repeated 4-grams, as the paper decodes.

  one at a time   transformers' generate on each of the 4,693 rows, as they stand. Measured on a sample of rows, one
                  half before and one half after the other measurement, and multiplied up.
  red             inference/generate.py over all rows: measured whole.

The texts of the sample are compared. Processor time is told beside time on the clock: it is the one to trust on a
machine with other work.
"""

from __future__ import annotations

import random
import statistics
import time
from pathlib import Path

import torch
from measuring import END, SMALL_GPT2, column, parser_for, train_tokenizer
from transformers import GenerationConfig, GPT2Config, GPT2LMHeadModel

from red_cli.console import silence_libraries
from red_cli.edit.model_kinds import DECODER
from red_cli.inference.generate import Decoder
from red_cli.inference.runtime import Runtime
from red_cli.recipe.load import load_recipe
from red_cli.recipe.sections import Decoding
from red_cli.runs.events import NullListener
from red_cli.tasks.base import Base
from red_cli.tasks.special_ids import SpecialIds, text_without_special_ids

_OPTIONS = {"num_beams": 10, "length_penalty": 0.9, "no_repeat_ngram_size": 4}


def one_at_a_time(
    model: GPT2LMHeadModel, prompt: list[int], config: GenerationConfig
) -> tuple[list[int], float, float]:
    """The text's ids, and how long it took: on the clock, of the processor."""
    started, busy = time.perf_counter(), time.process_time()
    with torch.inference_mode():
        written = model.generate(torch.tensor([prompt]), generation_config=config)[0, len(prompt) :].tolist()
    seconds = time.perf_counter() - started, time.process_time() - busy
    return (written[: written.index(END)] if END in written else written, *seconds)


def main() -> None:
    parser = parser_for(__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=40, help="rows of the sample that is decoded one at a time")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--vocabulary", type=int, default=50257)
    parser.add_argument("--max-new-tokens", type=int, default=64)
    arguments = parser.parse_args()
    silence_libraries()
    torch.set_num_threads(arguments.threads)
    prompts = column(arguments.data, "test", "meaning_representation")
    tokenizer = train_tokenizer(column(arguments.data, "train", "human_reference") + prompts)
    torch.manual_seed(0)
    model = GPT2LMHeadModel(
        GPT2Config(vocab_size=arguments.vocabulary, bos_token_id=END, eos_token_id=END, n_positions=512, **SMALL_GPT2)
    ).eval()
    model.generation_config = GenerationConfig()
    ids = tokenizer(prompts)["input_ids"]
    config = GenerationConfig(**_OPTIONS, max_new_tokens=arguments.max_new_tokens, eos_token_id=END, pad_token_id=END)
    sample = random.Random(0).sample(range(len(ids)), arguments.rows)
    one_at_a_time(model, ids[0], config)  # warm up

    alone: dict[int, list[int]] = {}
    seconds: list[float] = []
    processor: list[float] = []

    def measure(rows: list[int]) -> None:
        for row in rows:
            alone[row], taken, busy = one_at_a_time(model, ids[row], config)
            seconds.append(taken)
            processor.append(busy)

    measure(sample[: len(sample) // 2])
    recipe = load_recipe("generation", overrides=["model.name_or_path=.", "data.path=."]).recipe
    runtime = Runtime(model, Base(model.config, tokenizer, model.config.n_positions, DECODER), recipe, NullListener())
    decoder = Decoder(runtime, Decoding(**_OPTIONS))
    started, busy = time.perf_counter(), time.process_time()
    texts = decoder.generate(ids, SpecialIds(END, END), arguments.max_new_tokens)
    batched, batched_processor = time.perf_counter() - started, time.process_time() - busy
    measure(sample[len(sample) // 2 :])

    same = sum(texts[row].text == text_without_special_ids(tokenizer, written) for row, written in alone.items())
    each = statistics.mean(seconds)
    halves = [statistics.mean(half) for half in (seconds[: len(sample) // 2], seconds[len(sample) // 2 :])]
    whole = each * len(ids)
    print(f"{len(ids):,} rows, {len(set(map(tuple, ids)))} distinct; {arguments.threads} threads")
    print(f"one at a time   {each:.3f} s a row ({halves[0]:.3f} before, {halves[1]:.3f} after), {whole:,.0f} s in all")
    print(f"red             {batched:,.0f} s in all, measured whole")
    whole_processor = statistics.mean(processor) * len(ids)
    print(f"ratio           {whole / batched:.1f}")
    both = f"{whole_processor:,.0f} s, {batched_processor:,.0f} s"
    print(f"of processor    {whole_processor / batched_processor:.1f} ({both})")
    ended = sum(text.finished for text in texts)
    print(f"same texts      {same} of {len(alone)}; {ended:,} of {len(ids):,} came to an end")


if __name__ == "__main__":
    main()
