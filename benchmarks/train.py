"""Time and memory of training steps, methods side by side over the same batches.

    python benchmarks/train.py --model FOLDER --data FOLDER [--recipe glue_sst2] [--steps 60]
    python benchmarks/train.py --epoch --model FOLDER --data FOLDER [--recipe glue_sst2]
    python benchmarks/train.py --decoder [--model FOLDER] [--steps 30]

The first compares `red train`'s own step (collation, Accelerate, clipping, checks) with bare loops on an encoder:
  red       the toolkit's step
  bare      a plain loop with the same edits and head: forward, backward, AdamW, and nothing else
  lora      the same plain loop with PEFT's LoRA (r=8 on query and value) and the same head
  published a loop as the published code has it: each shuffled batch padded to its longest row, the edit as a product
            and then a sum, a plain AdamW
The second lets `red train` run for one epoch and then a script around the published loop, each a process that reads,
trains, evaluates and saves. Times are seconds of the processor (the same as
the clock's where nothing else runs, with OMP_NUM_THREADS=1), which other work on the machine hardly changes.
The third compares the edit itself with other methods on a decoder, by default a random GPT-2 of 6 layers, width 384, on
random sequences of 256:
  bias      training a bias of the same modules: the floor, for an edit cannot cost less
  red       the edit
  red++     the edit at RED++'s positions
  two-step  the edit as the published code writes it, a product and then a sum
  lora      PEFT's LoRA, r=8 at PEFT's own places: query and value, of GPT-2 the fused query, key and value
  ia3       PEFT's IA3 at its own places
  full      everything
In the first and the third, methods take every batch in turn, in random order, each on its own copy of the model. Ratios
are medians over steps of the times of one step, so that a slow moment of the machine hits all alike. Memory is what a
step allocates at its peak, on top of the model.
"""

from __future__ import annotations

import argparse
import copy
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from measuring import SMALL_GPT2, adamw, median_ratio, open_session, parser_for, peak_memory, seconds_in_turn
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, DataCollatorWithPadding, GPT2Config, GPT2LMHeadModel, PreTrainedModel

from red_cli import RedConfig, attach
from red_cli.base_model.load import load_base
from red_cli.console import silence_libraries
from red_cli.edit.layer import RedVectors
from red_cli.methods.red import trained_red
from red_cli.plan.prepare import Prepared, prepare
from red_cli.recipe.load import load_recipe
from red_cli.train.optimizer import build_optimizer
from red_cli.train.session import Session
from red_cli.train.step import optimizer_step

Step = Callable[[Any], object]
_WARMUP = 5
_DECODER = {**SMALL_GPT2, "vocab_size": 8192, "n_positions": 256, "bos_token_id": 0, "eos_token_id": 0}
_DECODER_BATCH = 8


def encoder_methods(session: Session) -> dict[str, Step]:
    """`red train`'s step and bare loops, over rows of the recipe's training split."""
    recipe, prepared = session.recipe, session.prepared
    rate = recipe.train.learning_rate

    def bare(model: PreTrainedModel, optimizer: torch.optim.Optimizer) -> Step:
        encoded, device = prepared.encoded["train"], session.processes.device
        model.to(device).train()

        def step(rows: Any) -> None:
            for piece in session.micro_batches(rows):
                batch = prepared.encoder.collate(encoded, piece.rows).to(device)
                (prepared.encoder.loss(model, batch) / len(rows)).backward()
            optimizer.step()
            optimizer.zero_grad()

        return step

    def edited_base() -> PreTrainedModel:
        model, head = load_base(recipe.model, prepared.base.config, prepared.task.kind, seed=0)
        attach(model, recipe.red, train_head=head)
        return model

    edited = edited_base()
    plain, head = load_base(recipe.model, prepared.base.config, prepared.task.kind, seed=0)
    lora = with_lora(plain, ["query", "value"], keep=sorted({name.split(".")[0] for name in head}))
    return {
        "red": lambda rows: optimizer_step(session, session.collate_step(rows)).read(),
        "bare": bare(edited, build_optimizer(trained_red(edited), recipe)),
        "lora": bare(lora, adamw(lora, rate)),
        "published": published_step(edited_base(), prepared, rate),
    }


def published_step(model: PreTrainedModel, prepared: Prepared, rate: float) -> Step:
    """The published code's loop over rows of the training split."""
    two_steps(model)
    encoded, collate = prepared.encoded["train"], DataCollatorWithPadding(prepared.base.tokenizer)
    assert encoded.labels is not None
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=rate)
    model.train()

    def step(rows: Any) -> None:
        batch = collate([{"input_ids": encoded.row(row).tolist(), "label": encoded.labels[row].item()} for row in rows])
        model(**batch).loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def two_steps(model: nn.Module) -> None:
    """Compute the edits as the published code writes them."""
    for module in model.modules():
        if isinstance(module, RedVectors):
            module.forward = lambda hidden, own=module: hidden * own.scale + own.bias


def decoder_models(base: PreTrainedModel) -> dict[str, nn.Module]:
    """The edit and its neighbours on copies of a decoder."""
    models = {name: copy.deepcopy(base) for name in ("bias", "red", "red++", "two-step", "lora", "ia3", "full")}
    for name in ("red", "two-step"):
        attach(models[name], RedConfig())
    attach(models["red++"], RedConfig(positions="red++"))
    two_steps(models["two-step"])
    models["bias"].requires_grad_(False)
    for path in trained_red(models["red"]).modules:
        module = models["bias"].get_submodule(path)
        if module.bias is None:
            module.bias = nn.Parameter(module.weight.new_zeros(base.config.hidden_size))
        module.bias.requires_grad_(True)
    models["lora"] = with_lora(models["lora"], None, keep=[])
    models["ia3"] = with_ia3(models["ia3"])
    return models


def language_step(model: nn.Module, optimizer: torch.optim.Optimizer) -> Step:
    """Next-token training on a batch of ids."""

    def step(ids: Tensor) -> None:
        model(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def with_lora(model: PreTrainedModel, targets: list[str] | None, keep: list[str]) -> Any:
    from peft import LoraConfig, get_peft_model

    fan = {"fan_in_fan_out": True} if model.config.model_type == "gpt2" else {}
    return get_peft_model(model, LoraConfig(r=8, lora_alpha=16, target_modules=targets, modules_to_save=keep, **fan))


def with_ia3(model: PreTrainedModel) -> Any:
    from peft import IA3Config, get_peft_model

    fan = {"fan_in_fan_out": True} if model.config.model_type == "gpt2" else {}
    return get_peft_model(model, IA3Config(task_type="CAUSAL_LM", **fan))


def print_table(seconds: dict[str, list[float]], peaks: dict[str, int], references: list[str]) -> None:
    columns = "".join(f"{'of ' + name:>12}" for name in references)
    print(f"{'method':10}{'step (ms)':>12}{columns}{'peak of a step (MiB)':>24}")
    for name, times in seconds.items():
        ratios = [median_ratio(times, seconds[reference]) for reference in references]
        shown = "".join(f"{ratio:12.3f}" for ratio in ratios)
        print(f"{name:10}{statistics.median(times) * 1000:12.1f}{shown}{peaks[name] / 2**20:24.1f}")


def bench_encoder(arguments: argparse.Namespace, folder: str) -> None:
    overrides = [f"output.dir={folder}/run", f"train.micro_batch_size={arguments.micro_batch_size}"]
    named = {"model.name_or_path": arguments.model, "data.path": arguments.data}
    overrides += [f"{key}={value}" for key, value in named.items() if value]
    loaded = load_recipe(arguments.recipe, overrides=overrides)
    session = open_session(loaded)
    methods = encoder_methods(session)
    sampler = session.schedule.sampler
    batches = (rows for _, rows in zip(range(_WARMUP + arguments.steps), sampler.from_step(0), strict=False))
    seconds = seconds_in_turn(methods, batches, _WARMUP)
    longest = (-session.prepared.encoded["train"].lengths).argsort(kind="stable")[: loaded.recipe.train.batch_size]
    peaks = {name: peak_memory(step, longest) for name, step in methods.items()}
    print_table(seconds, peaks, references=["bare", "lora", "published"])
    print(f"all steps: red takes {sum(seconds['red']) / sum(seconds['published']):.3f} of published")


def bench_epoch(arguments: argparse.Namespace, folder: str) -> None:
    named = {"model.name_or_path": arguments.model, "data.path": arguments.data, "train.num_train_epochs": 1}
    overrides = [f"{key}={value}" for key, value in named.items() if value] + [f"output.dir={folder}/run"]
    commands = {
        "red train": [sys.executable, "-m", "red_cli", "train", arguments.recipe, *overrides],
        "published": [sys.executable, __file__, "--published-epoch", arguments.recipe, *overrides],
    }
    spent, wall = {}, {}
    for name, command in commands.items():
        started = time.perf_counter(), processor_seconds()
        subprocess.run(command, check=True, capture_output=True)
        wall[name], spent[name] = time.perf_counter() - started[0], processor_seconds() - started[1]
        print(f"{name:12}{spent[name]:7.1f} s of the processor, {wall[name]:7.1f} s by the clock")
    ratios = [taken["red train"] / taken["published"] for taken in (spent, wall)]
    print(f"{'ratio':12}{ratios[0]:7.3f}{'':20}{ratios[1]:7.3f}")


def published_epoch(recipe: str, overrides: list[str]) -> None:
    """The published code's script for one epoch: read, train, evaluate, save."""
    loaded = load_recipe(recipe, overrides=overrides)
    prepared = prepare(loaded.recipe)
    model, head = load_base(loaded.recipe.model, prepared.base.config, prepared.task.kind, seed=0)
    attach(model, loaded.recipe.red, train_head=head)
    step = published_step(model, prepared, loaded.recipe.train.learning_rate)
    encoded, size = prepared.encoded["train"], loaded.recipe.train.batch_size
    rows = np.random.default_rng(0).permutation(len(encoded))
    for start in range(0, len(rows), size):
        step(rows[start : start + size])
    chosen, collate = prepared.encoded["validation"], DataCollatorWithPadding(prepared.base.tokenizer)
    model.eval()
    for start in range(0, len(chosen), size):
        places = range(start, min(start + size, len(chosen)))
        with torch.no_grad():
            model(**collate([{"input_ids": chosen.row(place).tolist()} for place in places]))
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    torch.save(trained, f"{loaded.recipe.output.dir}.pth")


def processor_seconds() -> float:
    """Of this process's children that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def bench_decoder(arguments: argparse.Namespace) -> None:
    torch.manual_seed(0)
    if arguments.model:
        base = AutoModelForCausalLM.from_pretrained(arguments.model, dtype=torch.float32)
    else:
        base = GPT2LMHeadModel(GPT2Config(**_DECODER))
    models = decoder_models(base)
    methods = {name: language_step(model.train(), adamw(model, 1e-3)) for name, model in models.items()}
    shape = (_DECODER_BATCH, arguments.length)
    batches = [torch.randint(1, base.config.vocab_size, shape) for _ in range(_WARMUP + arguments.steps)]
    seconds = seconds_in_turn(methods, batches, _WARMUP)
    peaks = {name: peak_memory(step, batches[0]) for name, step in methods.items()}
    print_table(seconds, peaks, references=["bias", "lora"])
    for name, model in models.items():
        trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
        print(f"{name:10}{trained:12,} trained")
    kept = _DECODER_BATCH * arguments.length * base.config.hidden_size * base.config.num_hidden_layers * 4
    more = peaks["red"] - peaks["bias"]
    print(f"red above bias: {more:,} bytes; one copy of the edited outputs: {kept:,} bytes")


def main() -> None:
    parser = parser_for(__doc__)
    parser.add_argument("--epoch", action="store_true", help="the second comparison")
    parser.add_argument("--published-epoch", nargs="+", help=argparse.SUPPRESS)
    parser.add_argument("--decoder", action="store_true", help="the third comparison")
    parser.add_argument("--recipe", default="glue_sst2")
    parser.add_argument("--model", help="model folder or name; default: the recipe's, or a random GPT-2")
    parser.add_argument("--data", help="data folder; default: the recipe's")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--length", type=int, default=256, help="tokens of a row of the third comparison")
    parser.add_argument("--micro-batch-size", type=int, default=32)
    arguments = parser.parse_args()
    silence_libraries()
    if arguments.published_epoch:
        published_epoch(arguments.published_epoch[0], arguments.published_epoch[1:])
        return
    if arguments.decoder:
        bench_decoder(arguments)
        return
    with tempfile.TemporaryDirectory() as folder:
        (bench_epoch if arguments.epoch else bench_encoder)(arguments, folder)


if __name__ == "__main__":
    main()
