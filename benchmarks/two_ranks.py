"""A random GPT-2 or LLaMA with rows, a session of `red train` over them, and two processes: for other benchmarks."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from measuring import END, train_tokenizer
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel, LlamaConfig

from red_cli.console import silence_libraries
from red_cli.distributed.launch import free_port
from red_cli.distributed.process_group import join_processes
from red_cli.plan.plan import make_plan
from red_cli.plan.prepare import prepare
from red_cli.recipe.load import load_recipe
from red_cli.train.events import NullTrainingListener
from red_cli.train.resources import OwnResources
from red_cli.train.session import Session
from red_cli.train.setup import build_session

RANK_FOLDER = "RED_BENCHMARK_FOLDER"  # set for one of the two processes
ROWS, WORDS = 8, 191


def make_run(folder: Path, layers: int, width: int, vocabulary: int, dtype: torch.dtype = torch.float32) -> None:
    """A random GPT-2, its tokenizer, and rows that all have as many words."""
    make_rows(folder)
    sizes = {"n_layer": layers, "n_embd": width, "n_head": 4, "vocab_size": vocabulary, "n_positions": 512}
    no_dropout = {"resid_pdrop": 0.0, "attn_pdrop": 0.0, "embd_pdrop": 0.0}
    config = GPT2Config(bos_token_id=END, eos_token_id=END, **sizes, **no_dropout)
    GPT2LMHeadModel(config).to(dtype).save_pretrained(folder)


def make_llama_run(folder: Path) -> None:
    """A random LLaMA of 0.7 billion parameters in bfloat16, with the tokenizer and the rows of `make_run`."""
    make_rows(folder)
    config = LlamaConfig(
        num_hidden_layers=24, hidden_size=1536, intermediate_size=4096, num_attention_heads=12, vocab_size=32000,
        max_position_embeddings=512, tie_word_embeddings=True, bos_token_id=END, eos_token_id=END,
    )  # fmt: skip
    AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).save_pretrained(folder)


def make_rows(folder: Path) -> None:
    """A tokenizer, and rows that all have as many words."""
    words = ["river", "stone", "green", "light", "paper", "sound", "north", "table"]
    draw = random.Random(0)
    texts = [" ".join(draw.choices(words, k=WORDS)) for _ in range(4 * ROWS)]
    train_tokenizer(texts).save_pretrained(folder)
    rows = [{"prompt": "say", "completion": f" {text}"} for text in texts]
    for split in ("train", "validation"):
        (folder / f"{split}.jsonl").write_text("\n".join(map(json.dumps, rows)))


def session_of(folder: Path, strategy: str, *changes: str, before: Callable[[], None] = lambda: None) -> Session:
    """`red train`'s own session for the rows of `folder`, which one micro-batch on each process takes.

    Args:
        before: called once everything but the base is loaded.
    """
    files = [f"data.{split}={folder / split}.jsonl" for split in ("train", "validation")]
    overrides = [f"model.name_or_path={folder}", "data.path=null", *files, f"output.dir={folder / strategy}",
                 "data.columns={prompt: prompt, completion: completion}", f"launch.strategy={strategy}",
                 f"train.batch_size={ROWS}", f"train.micro_batch_size={ROWS}", "train.max_steps=10",
                 "train.learning_rate=1e-3", *changes]  # fmt: skip
    loaded = load_recipe("generation", overrides=overrides)
    processes = join_processes(loaded.recipe.launch)
    prepared = prepare(loaded.recipe)
    schedule = make_plan(loaded, prepared, processes).schedule
    before()
    session = build_session(loaded, prepared, schedule, None, NullTrainingListener(), processes, OwnResources())
    session.engine.model.train()
    return session


def start_two_ranks(program: str, folder: Path) -> None:
    """Run a program in two processes, which find their work in `folder`."""
    shared = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "OMP_NUM_THREADS": "1",
              "MASTER_PORT": str(free_port()), "ACCELERATE_USE_CPU": "1", RANK_FOLDER: str(folder)}  # fmt: skip
    ranks = [
        subprocess.Popen([sys.executable, program], env={**os.environ, **shared, "RANK": rank, "LOCAL_RANK": rank})
        for rank in ("0", "1")
    ]
    if any(rank.wait() for rank in ranks):
        raise SystemExit("a process failed")


def work_as_rank(work: Callable[[Path], None]) -> None:
    """Do the work of one of two processes in its folder."""
    silence_libraries()
    torch.set_num_threads(1)
    work(Path(os.environ[RANK_FOLDER]))
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()
