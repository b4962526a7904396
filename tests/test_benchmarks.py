"""The benchmarks run at their smallest sizes, and the tools still make the same corpora."""

from __future__ import annotations

import csv
import importlib.util
import itertools
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.extras import cases
from tests.tiny import make_language_model

ROOT = Path(__file__).parents[1]
ONE_RUN = ["--methods", "RED", "--rates", 0.02, "--keys", "task.template=human-assistant"]
BENCHMARKS = {
    "compiled": ["--recipe", "RECIPE", "--steps", 2],
    "encode": ["--rows", 60, "--tokens", 20, "--repeats", 1, "--tasks", "instruction"],
    "adapters": ["--rows", 2, "--adapters", 2, "--length", 4, "--repeats", 1],
    "ends": ["--work", "WORK", "--steps", 1, "--rows", 1],
    "evaluate": ["--processes", 1, "--prompts", 3, "--max-new-tokens", 2, "--rounds", 1, "--width", 32, "--layers", 1],
    "export": ["--billions", 0.085, "--pairs", 1, "--work", "WORK"],
    "fold": ["--layers", 1, "--width", 64, "--rounds", 1],
    "generate": ["--data", "TEXTS", "--rows", 2, "--threads", 1, "--vocabulary", 300, "--max-new-tokens", 2],
    "launch": ["--recipe", "RECIPE", "--steps", 2, "--strategies", "single"],
    "loading": ["--ways", "fsdp,bfloat16", "--layers", 1, "--width", 64],
    "packing": ["--width", 64, "--layers", 1, "--longest", 32, "--repeats", 1],
    "prefix": ["--recipe", "RECIPE", "--layers", "2:", "--rows", 32, "--epochs", 1],
    "quickstart": ["--rows", 32, "--seeds", 0, "--epochs", 1],
    "rates": ["CSV", "--data", ".", "--tasks", "JSON answers", "--rows", 8, "--decoder", "DECODER", *ONE_RUN],
    "recipe_rates": ["--model", "DECODER", "--data", ".", "--recipes", "alpaca", "--rates", 0.04, "--steps", 1],
    "scale": ["--parts", "messages", "--layers", 2, "--chunks", 3],
    "scale chunks": [
        "--parts",
        "chunks",
        "--layers",
        1,
        "--chunks",
        2,
        "--width",
        16,
        "--vocabulary",
        320,
        "--rounds",
        1,
    ],
    "text_loss": ["--data", "TEXTS", "--steps", 1, "--threads", 1, "--vocabulary", 300],
    "together": ["--recipe", "RECIPE", "--seeds", "3-4", "--pairs", 1, "--keys", "train.max_steps=2"],
    "train": ["--recipe", "RECIPE", "--steps", 1, "--micro-batch-size", 16],
    "train epoch": ["--published-epoch", "RECIPE"],  # half of --epoch, the half that no other test runs
    "train decoder": ["--decoder", "--steps", 1, "--length", 8],
}
# All-gathers, all-reduces and reads outside the model of a step on two processes: fsdp gathers twice for each block and
# once for the rest, whatever the chunks
MESSAGES = {"ddp, 1 chunk, four messages": (0, 4, 6), "ddp, 1 chunk": (0, 1, 1), "fsdp, 1 chunk": (5, 1, 1),
            "fsdp, 3 chunks": (5, 1, 1)}  # fmt: skip


@pytest.fixture(autouse=True)
def same_threads() -> Iterator[None]:
    """Programs choose their number of threads, on which the last bits of other tests depend."""
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    """A few rows in the form of E2E NLG."""
    import pyarrow
    import pyarrow.parquet

    rows = [(f"name[Blue {number}], area[riverside]", f"Blue {number} is by the river.") for number in range(12)]
    names = ("meaning_representation", "human_reference")
    columns = dict(zip(names, map(list, zip(*rows, strict=True)), strict=True))
    for split in ("train", "validation", "test"):
        pyarrow.parquet.write_table(pyarrow.table(columns), tmp_path / f"{split}.parquet")
    return tmp_path


def run(name: str, arguments: list[object], monkeypatch: pytest.MonkeyPatch) -> None:
    path = ROOT / "benchmarks" / f"{name}.py"
    monkeypatch.syspath_prepend(path.parent)
    monkeypatch.setattr(sys, "argv", [str(path), *map(str, arguments)])
    module_spec = importlib.util.spec_from_file_location(f"benchmark_{name}", path)
    assert module_spec is not None
    assert module_spec.loader is not None
    module = importlib.util.module_from_spec(module_spec)
    monkeypatch.setitem(sys.modules, module_spec.name, module)
    module_spec.loader.exec_module(module)
    module.main()


@pytest.mark.slow
@pytest.mark.parametrize(
    "case", cases({case: [case] for case in BENCHMARKS}, {"train": "baselines", "train decoder": "baselines"})
)
def test_benchmarks_run(
    case: str, tmp_path: Path, texts: Path, recipe: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    places = {"WORK": tmp_path / "work", "TEXTS": texts, "RECIPE": recipe, "CSV": tmp_path / "rates.csv"}
    if "DECODER" in BENCHMARKS[case]:
        base = make_language_model(tmp_path / "decoder", "llama", letters=True, max_position_embeddings=512)
        settings = base / "tokenizer_config.json"
        settings.write_text(settings.read_text().replace('"model_max_length": 64', '"model_max_length": 512'))
        places["DECODER"] = base
    arguments = [places.get(argument, argument) for argument in BENCHMARKS[case]]
    run(case.split()[0], arguments, monkeypatch)
    out = capsys.readouterr().out
    assert out or case == "train epoch"
    if case == "together":
        assert out.endswith("differ by at most 0\n")
    if case == "scale":
        lines = {line[:36].rstrip(): line[36:].split() for line in out.splitlines()}
        counts = {way: list(map(int, lines[way])) for way in MESSAGES}
        assert {way: (found[0], found[1], found[3] - found[4]) for way, found in counts.items()} == MESSAGES
        assert float(out.split("differ by at most ")[1].split()[0]) < 1e-6


def test_every_benchmark_is_tried() -> None:
    files = {path.stem for path in (ROOT / "benchmarks").glob("*.py")} - {"measuring", "rates_table", "two_ranks"}
    assert files == {case.split()[0] for case in BENCHMARKS}


def test_tables_of_rates_pair_by_seed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """RED - LoRA by seed is 1, 2 and 3 on one task, and 4 on the other, which has a single seed of RED."""
    red, lora = {("A", 1): 11, ("A", 2): 14, ("A", 3): 17, ("B", 1): 9}, {("A", 1): 10, ("A", 2): 12, ("A", 3): 14}
    lora |= {("B", seed): 5 for seed in (1, 2)}
    scores = {"RED": red, "LoRA": lora}
    rows = [
        f"{task},m,{name},r,0.1,{seed},0,{score}" for name in scores for (task, seed), score in scores[name].items()
    ]
    (tmp_path / "rates.csv").write_text("\n".join(["task,measure,method,rates,rate,seed,value,test", *rows]))
    run("rates_table", [tmp_path / "rates.csv"], monkeypatch)
    printed = [line.strip("| ").split(" | ") for line in capsys.readouterr().out.splitlines()]
    assert ["RED", "14.00 ± 3.00 (3)", "9.00 (1)", "10.00 (1)"] in printed
    assert ["LoRA", "12.00 ± 2.00 (3)", "5.00 ± 0.00 (2)", "8.00 ± 0.71 (2)"] in printed
    assert ["RED", "+2.00 ± 0.58 (3)", "+4.00 (1)", "+2.50 (1)"] in printed


def test_the_bundled_rows_are_those_of_the_corpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "tools")
    from quickstart_corpus import SPLIT_WORDS, check_splits, documents, labelled_rows, mixed_document

    labelled = {split: labelled_rows(0, split) for split in SPLIT_WORDS}
    for split, rows in labelled.items():
        with (ROOT / "recipes" / "quickstart" / f"{split}.csv").open(encoding="utf-8", newline="") as file:
            assert list(csv.DictReader(file)) == rows
    exclude = {row["review"] for rows in labelled.values() for row in rows}
    check_splits(labelled, list(documents("0-mixed", mixed_document, 20_000, exclude)))


def test_the_decoder_corpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "tools")
    from decoder_corpus import documents

    first, again = (list(itertools.islice(documents("0-train"), 200)) for _ in range(2))
    assert first == again
    assert all(text and "{" not in text for text in first)


def test_making_a_decoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "tools")
    import make_decoder

    monkeypatch.setattr(make_decoder, "_TOKENIZER_DOCUMENTS", 200)
    sizes = ["--steps", "1", "--layers", "1", "--width", "64", "--vocabulary", "300", "--length", "16"]
    monkeypatch.setattr(sys, "argv", ["make_decoder.py", "--output", str(tmp_path), *sizes])
    make_decoder.main()
    assert json.loads((tmp_path / "config.json").read_text())["n_layer"] == 1
