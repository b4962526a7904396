"""Epochs and evaluations with and without train.cache_prefix: seconds of pairs in turn, passes of layers, losses.

    OMP_NUM_THREADS=1 python benchmarks/prefix.py --model <MiniLM folder> --data <GLUE SST-2 folder> --layers 4:

Both ways take the same steps through `red train`'s own session, each epoch in random order of the ways. The first
layers are computed once, before the first epoch, as a run does; the seconds of that are shown by themselves. Dropout
is off.
"""

from __future__ import annotations

import random
import statistics
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

from measuring import median_ratio, open_session, parser_for, synchronize

from red_cli.edit.repeated_layers import stacks
from red_cli.inference.predict import predict
from red_cli.inference.shared_rows import NEVER_STOP
from red_cli.recipe.load import load_recipe
from red_cli.train.prefix_cache import cached_prefix
from red_cli.train.session import Session
from red_cli.train.step import optimizer_step

_WAYS = {"without": [], "with": ["train.cache_prefix=true"]}


def count_passes(session: Session) -> Counter[int]:
    """Counts from here on how often each layer of the first stack computes, and not how often it is called."""
    counts = Counter[int]()
    for number, block in enumerate(stacks(session.model)[0]):
        inner = next(module for module in block.modules() if not list(module.children()))
        inner.register_forward_hook(lambda *_, number=number: counts.update([number]))
    return counts


def train_epoch(session: Session, epoch: int) -> list[float]:
    """The losses of the steps of an epoch."""
    rows = session.schedule.sampler.epoch(epoch)
    return [optimizer_step(session, session.collate_step(step)).read().loss for step in rows]


def evaluate(session: Session) -> None:
    prepared, size = session.prepared, session.state.micro_batch_size
    predict(prepared.encoder, prepared.selection, session.runtime, micro_batch_size=size, final=False)


def main() -> None:
    parser = parser_for(__doc__)
    parser.add_argument("--recipe", default="glue_sst2")
    parser.add_argument("--model", help="default: the recipe's")
    parser.add_argument("--data", help="default: the recipe's")
    parser.add_argument("--layers", default="4:", help="red.layers; those before the first one are stored")
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--epochs", type=int, default=4)
    options = parser.parse_args()
    keys = [
        f"red.layers='{options.layers}'",
        "model.dropout=0",
        f"data.max_train_rows={options.rows}",
        f"eval.max_rows={options.rows}",
        f"train.num_train_epochs={max(2, options.epochs)}",
        "train.learning_rate=0.01",
        *([f"model.name_or_path={options.model}"] if options.model else []),
        *([f"data.path={options.data}"] if options.data else []),
    ]
    kinds = ("epoch", "evaluation")
    seconds = {kind: {way: [] for way in _WAYS} for kind in kinds}
    losses: dict[str, list[float]] = {way: [] for way in _WAYS}
    with tempfile.TemporaryDirectory() as name, ExitStack() as opened:
        sessions, passes = {}, {}
        for way, own in _WAYS.items():
            folder = Path(name) / way
            folder.mkdir()
            loaded = load_recipe(options.recipe, overrides=[*keys, *own, f"output.dir={folder}"])
            sessions[way] = open_session(loaded)
            sessions[way].folder.path.mkdir(exist_ok=True)
            passes[way] = count_passes(sessions[way])
            started = time.perf_counter()
            opened.enter_context(cached_prefix(sessions[way], NEVER_STOP))
            synchronize()
            filled = time.perf_counter() - started
        if sessions["with"].runtime.prefix is None:
            parser.error(f"no cache: {sessions['with'].schedule.prefix}")
        first = dict(passes["with"])
        for epoch in range(options.epochs):
            for way in random.Random(epoch).sample(list(_WAYS), len(_WAYS)):
                for kind in kinds:
                    started = time.perf_counter()
                    if kind == "epoch":
                        losses[way] += train_epoch(sessions[way], epoch)
                    else:
                        evaluate(sessions[way])
                    synchronize()
                    seconds[kind][way].append(time.perf_counter() - started)
        plan = sessions["with"].schedule.prefix
        assert plan is not None
        print(f"prefix: {plan.layers} layers, {plan.size:,} bytes on disk, {filled:.2f} s to compute")
        for kind, times in seconds.items():
            ratio = median_ratio(times["with"], times["without"])
            medians = "  ".join(f"{way} {statistics.median(values):8.3f} s" for way, values in times.items())
            print(f"{kind:10} {medians}  ratio {ratio:.3f}")
        print("passes of each layer, before the first epoch and in all epochs with their evaluations:")
        for number in sorted(passes["without"]):
            later = passes["with"][number] - first.get(number, 0)
            print(f"  layer {number:2}  without 0 + {passes['without'][number]}  with {first.get(number, 0)} + {later}")
        apart = max(abs(one - other) for one, other in zip(losses["with"], losses["without"], strict=True))
        print(f"losses apart by at most {apart:.1e}")


if __name__ == "__main__":
    main()
