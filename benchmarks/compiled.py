"""Training steps with and without train.compile: processor seconds of pairs in turn, graphs, losses.

    OMP_NUM_THREADS=1 python benchmarks/compiled.py --model <MiniLM folder> [--keys train.bf16=true ...]

Both ways take the same batches through `red train`'s own session, in random order of the ways. Rows have their own
lengths, so that the batches differ in shape. A step that makes graphs is left out of the ratio; what it takes more than
the other way's, C++ compiler included, is shown by itself. Dropout is off.
"""

from __future__ import annotations

import random
import resource
import statistics
import tempfile
from contextlib import ExitStack
from pathlib import Path

import torch
from measuring import median_ratio, open_session, parser_for

from red_cli.console import silence_libraries
from red_cli.recipe.load import load_recipe
from red_cli.train.compiled_layers import compiled_layers
from red_cli.train.session import Session
from red_cli.train.step import optimizer_step

_WAYS = {"without": "train.compile=false", "with": "train.compile=true"}


def processor_seconds() -> float:
    """Of this process and of those that it started and waited for, such as compilers; in steps of microseconds."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def graphs_made() -> int:
    from torch._dynamo.utils import counters

    return counters["stats"]["unique_graphs"]


def timed_step(session: Session, step: int) -> tuple[float, float]:
    """Processor seconds and loss of a training step; the steps go through the epochs in their order."""
    rows = next(session.schedule.sampler.from_step(step))
    batches = session.collate_step(rows)
    started = processor_seconds()
    loss = optimizer_step(session, batches).read().loss
    return processor_seconds() - started, loss


def main() -> None:
    parser = parser_for(__doc__)
    parser.add_argument("--recipe", default="quickstart")
    parser.add_argument("--model", help="default: the recipe's")
    parser.add_argument("--data", help="default: the recipe's")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--keys", nargs="*", default=[], metavar="KEY=VALUE", help="of the recipe")
    options = parser.parse_args()
    silence_libraries()
    torch.set_num_threads(options.threads)
    keys = [
        "model.dropout=0",
        "train.learning_rate=0.01",
        f"train.max_steps={options.steps}",
        *([f"model.name_or_path={options.model}"] if options.model else []),
        *([f"data.path={options.data}"] if options.data else []),
        *options.keys,
    ]
    seconds: dict[str, list[float]] = {way: [] for way in _WAYS}
    apart, making, graphs = 0.0, 0.0, 0
    with tempfile.TemporaryDirectory() as folder, ExitStack() as opened:
        sessions = {}
        for way, own in _WAYS.items():
            loaded = load_recipe(options.recipe, overrides=[*keys, own, f"output.dir={Path(folder) / way}"])
            sessions[way] = open_session(loaded)
            opened.enter_context(compiled_layers(sessions[way]))
        for step in range(options.steps):
            before, found = graphs_made(), {}
            for way in random.Random(step).sample(list(_WAYS), len(_WAYS)):
                found[way] = timed_step(sessions[way], step)
            apart = max(apart, abs(found["with"][1] - found["without"][1]) / abs(found["without"][1]))
            if (made := graphs_made() - before) > 0:
                graphs, making = graphs + made, making + found["with"][0] - found["without"][0]
                print(f"step {step}: {made} graphs")
                continue
            for way, (spent, _) in found.items():
                seconds[way].append(spent)
    print(f"{graphs} graphs, {making:.1f} s of the processor to make them")
    if seconds["with"]:
        ratio = median_ratio(seconds["with"], seconds["without"])
        medians = "  ".join(f"{way} {statistics.median(spent) * 1000:.0f} ms" for way, spent in seconds.items())
        print(f"{len(seconds['with'])} steps: {medians}  ratio {ratio:.3f}")
    print(f"losses apart by at most {apart:.1e} of their size")


if __name__ == "__main__":
    main()
