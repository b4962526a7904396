"""Rows become tokens: `red`'s reading and encoding, compared with one batched call of the tokenizer.

For generation the call is `tokenizer(prompts + completions)`, for instruction `apply_chat_template(conversations)`.
Every measurement has a process of its own. Printed are processor time, memory a row, and the time of a second start:

    python benchmarks/encode.py [--rows 200000] [--model FOLDER] [--data FILE.jsonl with prompt and completion]
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np
from measuring import parser_for, train_tokenizer
from transformers import AutoTokenizer, LlamaConfig

from red_cli.plan.prepare import prepare
from red_cli.recipe.load import load_recipe
from red_cli.tasks.data import kept_tables
from red_cli.tasks.encoded import cached

_AT_ONCE = 10_000  # rows of a batched call, so that its result fits into memory
_TASKS = ("generation", "instruction")
_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|' + message.role + '|>' + message.content + (eos_token if message.role == 'assistant' else '') }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


def make_texts(rows: int, tokens: int) -> list[dict[str, str]]:
    """Prompts and completions of made-up words, some of them frequent, most rare."""
    draw = np.random.default_rng(0)
    letters, weights = list("etaoinshrdlucm"), np.linspace(2, 0.5, 14)
    words = ["".join(draw.choice(letters, length, p=weights / weights.sum())) for length in draw.integers(2, 9, 20_000)]
    counts = np.clip(draw.lognormal(np.log(tokens / 2.5), 0.4, (rows, 2)), 4, 4 * tokens).astype(int)
    chosen = np.minimum(draw.zipf(1.2, counts.sum()) - 1, len(words) - 1)
    ends = np.cumsum(counts.reshape(-1))
    parts = [" ".join(words[word] for word in part) + "." for part in np.split(chosen, ends[:-1])]
    return [{"prompt": prompt, "completion": f" {text}"} for prompt, text in zip(parts[::2], parts[1::2], strict=True)]


def as_conversation(row: dict[str, str]) -> list[dict[str, str]]:
    return [{"role": "user", "content": row["prompt"]}, {"role": "assistant", "content": row["completion"].strip()}]


def write_data(folder: Path, rows: list[dict[str, str]]) -> None:
    for task in _TASKS:
        lines = [json.dumps(row if task == "generation" else {"messages": as_conversation(row)}) for row in rows]
        (folder / f"{task}.jsonl").write_text("\n".join(lines) + "\n")
        (folder / f"{task}-validation.jsonl").write_text("\n".join(lines[:10]) + "\n")


def make_base(folder: Path, rows: list[dict[str, str]]) -> Path:
    tokenizer = train_tokenizer([row["prompt"] + row["completion"] for row in rows[:5000]])
    tokenizer.chat_template = _TEMPLATE
    tokenizer.save_pretrained(folder / "base")
    LlamaConfig(vocab_size=len(tokenizer), max_position_embeddings=4096, eos_token_id=0).save_pretrained(
        folder / "base"
    )
    return folder / "base"


def cpu_seconds() -> float:
    parts = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(part.ru_utime + part.ru_stime for part in parts)


def peak_bytes() -> int:
    status = Path("/proc/self/status")
    if status.exists():  # the other figure begins at that of the parent
        return int(status.read_text().split("VmHWM:")[1].split()[0]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def measure_plain(task: str, folder: Path, model: str) -> dict[str, float]:
    """Processor time of batched calls of the tokenizer, reading not included."""
    tokenizer = AutoTokenizer.from_pretrained(model)
    with (folder / f"{task}.jsonl").open() as file:
        rows = [json.loads(line) for line in file]
    if task == "generation":
        call, given = tokenizer, [row["prompt"] + row["completion"] for row in rows]
    else:
        call, given = partial(tokenizer.apply_chat_template, return_dict=True), [row["messages"] for row in rows]
    seconds, tokens = 0.0, 0
    for start in range(0, len(given), _AT_ONCE):
        started = cpu_seconds()
        found = call(given[start : start + _AT_ONCE])
        seconds += cpu_seconds() - started
        tokens += sum(map(len, found["input_ids"]))
    return {"cpu": seconds, "tokens": tokens / len(given)}


def measure_red(task: str, folder: Path, model: str) -> dict[str, float]:
    """Processor time, time and memory until the rows are ready, start-up not included."""
    cached.SMALLEST = kept_tables.SMALLEST = 0
    recipe = folder / f"{task}.yaml"
    recipe.write_text(
        f"task: {{name: {task}}}\nmodel: {{name_or_path: {model}}}\n"
        f"data: {{path: null, train: {folder / task}.jsonl, validation: {folder / task}-validation.jsonl}}\n"
        f"output: {{dir: {folder / 'run'}}}\n"
    )
    loaded = load_recipe(str(recipe)).recipe
    AutoTokenizer.from_pretrained(model)  # its code is imported, and the library's memory taken
    before, started, clock = peak_bytes(), cpu_seconds(), time.perf_counter()
    prepared = prepare(loaded)
    found = {"cpu": cpu_seconds() - started, "seconds": time.perf_counter() - clock}
    return {**found, "bytes": (peak_bytes() - before) / len(prepared.encoded["train"])}


def in_a_process(what: str, task: str, folder: Path, model: str, cache: Path) -> dict[str, float]:
    command = [sys.executable, __file__, "--measure", what, task, str(folder), model]
    environment = {**os.environ, "RED_CACHE_DIR": str(cache), "PYTHONPATH": os.pathsep.join(sys.path)}
    ran = subprocess.run(command, env=environment, capture_output=True, text=True)
    if ran.returncode:
        sys.exit(ran.stderr)
    return json.loads(ran.stdout.splitlines()[-1])


def compare(task: str, folder: Path, model: str, repeats: int) -> str:
    plain, first, second = [], [], []
    for number in range(repeats):  # in turn, and the fastest counts: others on the machine only slow down
        cache = folder / f"cache-{task}-{number}"
        plain.append(in_a_process("plain", task, folder, model, cache))
        first.append(in_a_process("red", task, folder, model, cache))
        second.append(in_a_process("red", task, folder, model, cache))
    cpu, base = min(each["cpu"] for each in first), min(each["cpu"] for each in plain)
    seconds, again = min(each["seconds"] for each in first), min(each["seconds"] for each in second)
    memory, later = (max(each["bytes"] for each in starts) for starts in (first, second))
    return (
        f"{task}: {plain[0]['tokens']:.0f} tokens a row\n"
        f"  first start:  {cpu:.1f} s of the processor, {cpu / base:.2f} x the plain call; {memory:,.0f} bytes a row\n"
        f"  second start: {again:.2f} s, {again / seconds:.1%} of the first; {later:,.0f} bytes a row"
    )


def main() -> None:
    parser = parser_for(__doc__)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--tokens", type=int, default=100, help="of a made-up row, about")
    parser.add_argument("--model", help="a folder with a tokenizer; without it one is made")
    parser.add_argument("--data", type=Path, help="JSONL with prompt and completion; without it rows are made up")
    parser.add_argument("--tasks", default=",".join(_TASKS))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--measure", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        what, task, folder, model = options.measure
        print(json.dumps((measure_plain if what == "plain" else measure_red)(task, Path(folder), model)))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if options.data is None:
            rows = make_texts(options.rows, options.tokens)
        else:
            rows = [json.loads(line) for line in options.data.read_text().splitlines()[: options.rows]]
        write_data(folder, rows)
        model = options.model or str(make_base(folder, rows))
        print(f"{len(rows):,} rows, {os.cpu_count()} processors; red reads the file and encodes it")
        for task in options.tasks.split(","):
            print(compare(task, folder, model, options.repeats), flush=True)


if __name__ == "__main__":
    main()
