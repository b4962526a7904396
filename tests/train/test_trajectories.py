"""Reference trajectories: a few steps of every kind of task, by each method, give the recorded numbers.

`tests/golden/trajectories.json` holds, for each cell (a kind of task and a method), the loss of every step, the scores
on the validation and test splits, and two SHA-256 digests: of the trained tensors and of the answers on the test split.

Losses and scores always agree within 1e-5. Bits depend on the versions of torch and transformers and on the kernels
that the CPU takes, so the digests are compared only where those are the recorded ones. Elsewhere the mean absolute
value of each tensor is compared instead, and the test ends as skipped, with the reason.

A change that is meant to move numbers records the cells again, all of them or those that `-k` selects, and says so in
its message. How packed texts are split into micro-batches moves the cells "instruction-packed" alone.

    python -m pytest -n 0 tests/train/test_trajectories.py --record-trajectories [-k packed]
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file

from tests.end_to_end.test_e2e import write_split
from tests.end_to_end.test_instruction_tuning import talking_base, talks
from tests.end_to_end.test_text_tasks import completions, write_jsonl
from tests.questions import FORMATS, make_decoder, questions
from tests.tiny import (
    first_output,
    make_base,
    make_data,
    make_language_model,
    read_lines,
    tiny_inputs,
    tiny_model,
)

GOLDEN = Path(__file__).parents[1] / "golden" / "trajectories.json"
# name -> keys of the recipe, and its learning rate
METHODS = {"red": {"method": "red"}, "relative": {"method": "red"},
           "lora": {"method": "lora", "lora": {"rank": 4, "dropout": 0.1}}, "full": {"method": "full"}}  # fmt: skip
RATES = {"red": 5e-2, "relative": 5e-2, "lora": 1e-2, "full": 1e-3}
ROWS = {"train": 24, "validation": 8, "test": 6}
# Gradients are accumulated over two micro-batches, weights decay, and the last two steps are of a second epoch.
TRAIN = {"max_steps": 5, "batch_size": 8, "micro_batch_size": 4, "logging_steps": 1, "warmup_steps": 2,
         "weight_decay": 0.1, "max_grad_norm": 0.5}  # fmt: skip
SHORT = {"generation": {"max_new_tokens": 5}}
ANSWERS = ("prediction", "text", "likeliest")


@dataclass(frozen=True)
class Kind:
    """A kind of task: its base and data, made in a folder of their own, and what its recipe says."""

    base: Callable[[Path], Path]
    data: Callable[[Path], object]
    task: dict[str, object]
    columns: dict[str, str] = field(default_factory=dict)
    train: dict[str, object] = field(default_factory=dict)
    eval: dict[str, object] = field(default_factory=dict)


def labelled(folder: Path) -> Path:
    return make_data(folder, *ROWS.values())


def completed(folder: Path) -> None:
    for seed, (split, count) in enumerate(ROWS.items()):
        write_jsonl(folder / f"{split}.jsonl", completions(count, seed))


def talked(folder: Path) -> None:
    for seed, (split, count) in enumerate(ROWS.items()):
        write_jsonl(folder / f"{split}.jsonl", talks(count, seed))


def asked(folder: Path) -> None:
    for seed, task in enumerate(FORMATS):
        (folder / task).mkdir(parents=True)
        for split, count in (("train", 8), ("validation", 2), ("test", 2)):
            (folder / task / f"{split}.json").write_text(json.dumps(questions(task, count, seed)))


def described(folder: Path) -> None:
    folder.mkdir()
    for split, inputs, references in (("train", 6, 4), ("validation", 3, 2), ("test", 3, 2)):
        write_split(folder / f"{split}.csv", inputs, references)


def asked_base(folder: Path) -> Path:
    texts = [row["instruction"] + " " + row["output"] for task in FORMATS for row in questions(task, 40, 0)]
    return make_decoder(folder, [*texts, " : "])


def letter_t5(folder: Path) -> Path:
    return make_language_model(folder, "t5", letters=True)


PAIRS = {"text": "text", "text_pair": "text_pair"}
ACCURACY = {"metric": "accuracy"}
TEXT_TO_TEXT = {"name": "classification", "text_to_text": True}
KINDS = {
    "classification": Kind(make_base, labelled, {"name": "classification"}, eval=ACCURACY),
    "regression": Kind(make_base, labelled, {"name": "regression"}, {**PAIRS, "label": "score"}),
    "text-to-text": Kind(letter_t5, labelled, TEXT_TO_TEXT, eval=ACCURACY),
    "generation": Kind(
        make_language_model,
        completed,
        {"name": "generation"},
        eval={"metric": "exact_match", "metrics": ["loss", "chrF"]},
    ),
    "e2e": Kind(make_language_model, described, {"name": "e2e"}, eval={"metrics": ["loss", "chrF"]}),
    "instruction": Kind(talking_base, talked, {"name": "instruction"}),
    "instruction-packed": Kind(talking_base, talked, {"name": "instruction"}, train={"packing": True}),
    "commonsense": Kind(asked_base, asked, {"name": "commonsense", "prompt_template": "{instruction} : "}),
}
CELLS = [(kind, method) for kind in KINDS for method in METHODS]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Callable[[Path], object]], Path]:
    """The folder that a maker of bases or data has filled; each is called once."""
    folders: dict[Callable[[Path], object], Path] = {}

    def make(maker: Callable[[Path], object]) -> Path:
        if maker not in folders:
            folders[maker] = tmp_path_factory.mktemp("made") / maker.__name__
            maker(folders[maker])
        return folders[maker]

    return make


def recipe_of(kind: Kind, method: str, base: Path, data: Path) -> dict[str, object]:
    rates = "relative" if method == "relative" else "absolute"
    return {
        "task": kind.task,
        "model": {"name_or_path": str(base)},
        "data": {"path": str(data), "columns": kind.columns},
        "train": {**TRAIN, "learning_rate": RATES[method], "rates": rates, **kind.train},
        "eval": {**kind.eval, **({} if kind.task["name"] in ("classification", "regression") else SHORT)},
        "launch": {"strategy": "single"},
        **METHODS[method],
    }


@functools.cache
def circumstances() -> dict[str, str]:
    """What the bits of a result depend on besides this package.

    CPUs of one capability may still take other kernels; "arithmetic" is a digest of gradients that transformers alone
    computes for the bases used here.
    """
    digest = hashlib.sha256()
    for model_type in ("bert", "gpt2", "llama", "t5"):
        for rows, length in ((4, 12), (3, 29)):
            model = tiny_model(model_type)
            first_output(model, tiny_inputs(model_type, rows, length)).square().mean().backward()
            for parameter in model.parameters():
                if parameter.grad is not None:
                    digest.update(parameter.grad.numpy().tobytes())
    return {
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "cpu": torch.backends.cpu.get_cpu_capability(),
        "arithmetic": digest.hexdigest()[:16],
    }


def tensors_of(run: Path) -> dict[str, torch.Tensor]:
    (file,) = (run / "adapter").glob("*.safetensors")
    return dict(sorted(load_file(file).items()))


def digest_of(tensors: dict[str, torch.Tensor]) -> str:
    """Of names, dtypes, shapes and values; not of the file, whose metadata may change."""
    digest = hashlib.sha256()
    for name, tensor in tensors.items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()


def digest_of_answers(run: Path) -> str:
    rows = read_lines(run / "predictions" / "test.jsonl")
    answers = [[row[key] for key in ANSWERS if key in row] for row in rows]
    return hashlib.sha256(json.dumps(answers).encode()).hexdigest()


def measure(red: Callable, recipe: dict[str, object], folder: Path) -> dict[str, object]:
    """Train by the recipe and score the test split; the cell as it is recorded."""
    path, run = folder / "recipe.yaml", folder / "run"
    path.write_text(json.dumps(recipe))  # JSON is YAML
    trained = red("train", path, f"output.dir={run}", "--json")
    assert trained.code == 0, trained.err
    tested = red("eval", run, "--split", "test", "--json")
    assert tested.code == 0, tested.err
    log, tensors = read_lines(run / "log.jsonl"), tensors_of(run)
    return {
        "recorded_with": circumstances(),
        "losses": [line["loss"] for line in log if "loss" in line],
        "gradient_norms": [line["gradient_norm"] for line in log if "gradient_norm" in line],
        "scores": {**trained.json["splits"], "test": tested.json["scores"]},
        "tensors_digest": digest_of(tensors),
        "answers_digest": digest_of_answers(run),
        "tensors": {name: float(f"{tensor.abs().mean():.7g}") for name, tensor in tensors.items()},
    }


def compact(cells: dict[str, dict]) -> str:
    """JSON with a line for each entry of a cell."""
    lines = []
    for name, cell in sorted(cells.items()):
        entries = ",\n".join(f"  {json.dumps(key)}: {json.dumps(value)}" for key, value in cell.items())
        lines.append(f" {json.dumps(name)}: {{\n{entries}\n }}")
    return "{\n" + ",\n".join(lines) + "\n}\n"


def assert_equal_numbers(found: dict[str, dict], recorded: dict[str, dict]) -> None:
    assert found["losses"] == pytest.approx(recorded["losses"], rel=1e-5)
    assert found["gradient_norms"] == pytest.approx(recorded["gradient_norms"], rel=1e-4)
    assert found["scores"].keys() == recorded["scores"].keys()
    for split, scores in recorded["scores"].items():  # correlations lie between -1 and 1, some of them near 0
        assert found["scores"][split] == pytest.approx(scores, rel=1e-5, abs=1e-5), split
    assert len(found["losses"]) == TRAIN["max_steps"]


@pytest.mark.parametrize(("kind", "method"), CELLS, ids=["-".join(cell) for cell in CELLS])
def test_no_number_moves(
    red: Callable, made: Callable, tmp_path: Path, request: pytest.FixtureRequest, kind: str, method: str
) -> None:
    facts, cell = KINDS[kind], f"{kind}-{method}"
    found = measure(red, recipe_of(facts, method, made(facts.base), made(facts.data)), tmp_path)
    cells = json.loads(GOLDEN.read_text()) if GOLDEN.is_file() else {}
    if request.config.getoption("--record-trajectories"):
        GOLDEN.write_text(compact({**cells, cell: found}))
        pytest.skip(f"recorded {cell}")
    recorded = cells[cell]
    here, there = found["recorded_with"], recorded["recorded_with"]
    if here["transformers"] != there["transformers"]:
        pytest.skip(f"another release of transformers may draw and compute otherwise: recorded with {there}")
    assert_equal_numbers(found, recorded)
    if here != there:
        assert found["tensors"] == pytest.approx(recorded["tensors"], rel=1e-4, abs=1e-5)
        pytest.skip(f"numbers agree; bits are not compared: recorded with {there}, here is {here}")
    assert found["answers_digest"] == recorded["answers_digest"]
    assert found["tensors_digest"] == recorded["tensors_digest"]


def test_every_recorded_cell_is_run() -> None:
    assert json.loads(GOLDEN.read_text()).keys() == {f"{kind}-{method}" for kind, method in CELLS}
