"""The commands under Next, and the code of cards, run as they are printed."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from contextlib import redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

import pytest

from red_cli.export.next_steps import Facts, next_steps
from red_cli.recipe.load import load_recipe
from tests.export.test_ends import GENERATION, MESSAGES, make_base, write_rows
from tests.export.test_gguf_export import make_base as make_gguf_base
from tests.export.test_strange_names import blocks
from tests.extras import has_extra
from tests.tiny import make_base as make_encoder
from tests.tiny import make_data

_ENCODER = ("red.positions=[ffn]", "train.max_steps=1")
_PAIR = "data.columns={text: text, text_pair: text_pair, label: label}"


@dataclass
class Case:
    """A run, and what its code prints."""

    task: str
    model_type: str
    keys: tuple[str, ...]
    shown: str
    chats: bool = False
    form: str = "merged"


CASES = {
    "a label": Case("classification", "bert", _ENCODER, r"\[\{'label': '(positive|negative)'"),
    "a label of two texts": Case("classification", "bert", (*_ENCODER, _PAIR), r"'label': '(positive|negative)'"),
    "a number": Case(
        "{name: regression}", "bert", (*_ENCODER, "data.columns={text: text, label: score}"), r"'score': -?\d"
    ),
    "a completion": Case("generation", "llama", (), r"^(?!abc)", chats=True),
    "an answer": Case("instruction", "llama", ("task.template=own",), r"^[^\[]*$", chats=True),
    "a text of an encoder-decoder": Case("generation", "t5", ("red.components=[scale]",), "", chats=True),
    "a model with its own code": Case("generation", "t5", (), "", chats=True, form="code"),
}  # fmt: skip

QUICK = ("a label", "a number", "an answer")


def train(red, folder: Path, case: Case) -> tuple[Path, list[str]]:
    """A run, and the lines under Next."""
    run = folder / "it's a run"
    if case.model_type == "bert":
        make_encoder(folder / "base")
        make_data(folder, 16, 8, 8)
        first = ["classification", f"task={case.task}"] if case.task.startswith("{") else [case.task]
        keys = [f"data.path={folder}", *case.keys]
    else:
        make_base(folder / "base", case.model_type)
        write_rows(folder, **(MESSAGES if case.task == "instruction" else GENERATION))
        first, keys = [case.task], [f"data.path={folder}", "train.max_steps=1", "data.max_length=40",
                        "eval.generation={max_new_tokens: 8}", *case.keys]  # fmt: skip
    outcome = red(
        "train", *first, f"model.name_or_path={folder / 'base'}", f"output.dir={run}", "train.bf16=false", *keys
    )
    assert outcome.code == 0, outcome.err
    return run, following(outcome.out)


def following(screen: str) -> list[str]:
    """The lines under Next."""
    return [line.strip() for line in screen.partition("\nNext\n")[2].splitlines()]


def printed(code: str) -> str:
    with redirect_stdout(StringIO()) as out:
        exec(compile(code, "card", "exec"), {})
    return out.getvalue()


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in QUICK else pytest.mark.slow) for name in CASES]
)
def test_what_is_printed_and_written_runs(red, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    case = CASES[name]
    run, lines = train(red, tmp_path, case)
    place = shlex.quote(str(run))
    assert lines[0] == f"red predict {place} FILE"
    assert (f"red chat {place}" in lines) == case.chats
    assert f"red eval {place}" in lines
    export = next(line for line in lines if line.startswith("red export"))
    assert (case.form == "merged") == ("--format" not in export)
    exported = red(*shlex.split(export)[1:])
    assert exported.code == 0, exported.err
    merged = run / "merged"
    after = following(exported.out)
    assert after[0].startswith(f"red predict {shlex.quote(str(merged))} FILE")
    python = next(line for line in after if line.startswith("python -c"))
    assert re.search(case.shown, printed(shlex.split(python)[2])), printed(shlex.split(python)[2])
    scored = red(*shlex.split(next(line for line in after if line.startswith("red eval")))[1:])
    assert scored.code == 0, scored.err
    assert following(scored.out) == [line for line in after if not line.startswith("red eval")]
    monkeypatch.chdir(run)
    for folder in (merged, run):
        code = blocks((folder / "README.md").read_text(), "python")[0]
        assert re.search(case.shown, printed(code))
    shown = [line.replace(shlex.quote(str(merged)), "merged").replace(place, ".") for line in lines]
    assert blocks((run / "README.md").read_text(), "bash")[0].splitlines() == shown
    shared = red("export", run, "-o", tmp_path / "adapter", "--format", "adapter")
    assert f"red export {tmp_path}/adapter --output {tmp_path}/adapter-merged" in " ".join(following(shared.out))
    monkeypatch.chdir(tmp_path)
    assert re.search(case.shown, printed(blocks((tmp_path / "adapter" / "README.md").read_text(), "python")[0]))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["a label", "an answer"])
def test_the_line_runs_in_a_shell(red, tmp_path: Path, name: str) -> None:
    _, lines = train(red, tmp_path, CASES[name])
    exported = red(*shlex.split(next(line for line in lines if line.startswith("red export")))[1:])
    line = next(line for line in following(exported.out) if line.startswith("python -c"))
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    shell = subprocess.run(["bash", "-c", line], env={**os.environ, "PATH": path}, capture_output=True, text=True)
    assert shell.returncode == 0, shell.stderr
    assert re.search(CASES[name].shown, shell.stdout)


# modules whose biases a server has no place for, by server -> the lines of servers
SERVED: dict[str, tuple[dict, list[str]]] = {
    "every bias": ({"vllm": [], "llama.cpp": []}, ["vllm serve out", "python convert_hf_to_gguf.py out"]),
    "biases that both drop": (
        {"vllm": ["o_proj"], "llama.cpp": ["o_proj"]}, ["vllm serve out --model-impl transformers"]
    ),
    "on one list": ({"vllm": []}, ["vllm serve out"]),
    "on no list": ({}, []),
}  # fmt: skip


@pytest.mark.parametrize("name", SERVED)
def test_servers_are_those_that_read_every_bias(name: str) -> None:
    unread, servers = SERVED[name]
    recipe = load_recipe("generation", None, []).recipe
    lines = next_steps(Facts(Path("out"), "model", recipe, True, (), "AutoModelForCausalLM", False, unread))
    shown = [line.partition("  #")[0] for line in lines if "vllm" in line or "gguf" in line]
    assert shown == servers
    assert "transformers serve out" in lines


def test_a_run_that_fits_llama_cpp_says_so(red, tmp_path: Path) -> None:
    base = make_gguf_base(tmp_path, "mistral", "smollm", sliding_window=None).parent / "base"
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps({"prompt": "say 3", "completion": "it is 3"}) + "\n" for _ in range(2)))
    trained = red("train", "generation", "data.path=null", f"data.train={rows}", f"data.validation={rows}",
                  f"model.name_or_path={base}", "train.max_steps=1", f"output.dir={tmp_path / 'run'}")  # fmt: skip
    assert trained.code == 0, trained.err
    lines = [line for line in following(trained.out) if "gguf" in line]
    assert len(lines) == has_extra("gguf")
    for line in lines:
        exported = red(*shlex.split(line)[1:])
        assert exported.code == 0, exported.err
        file = tmp_path / "run" / "model.gguf"
        assert following(exported.out) == [f"llama-server -m {file}", f"llama-cli -m {file}"]


@pytest.mark.parametrize("broken", ["auto_class", "is_trained_folder", "read_vectors", "model_use"])
def test_a_suggestion_that_fails_loses_nothing(red, recipe: Path, monkeypatch: pytest.MonkeyPatch, broken: str) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("a library's own")

    monkeypatch.setattr(f"red_cli.export.next_steps.{broken}", fail)
    outcome = red("train", recipe, "train.max_steps=1", "eval.untuned=false")
    assert outcome.code == 0, outcome.err
    run = recipe.parent / "run"
    assert json.loads((run / "metrics.json").read_text())["training"]["steps"] == 1
    assert (run / "README.md").is_file()
    for arguments in (("eval", run), ("export", run, "-o", recipe.parent / "out", "--no-verify")):
        assert (shown := red(*arguments)).code == 0, shown.err


def test_metrics_are_written_before_the_card(red, recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("a fault of the card")

    monkeypatch.setattr("red_cli.train.loop.run_card", fail)
    assert red("train", recipe, "train.max_steps=1", "eval.untuned=false").code == 1
    assert red("train", recipe, "train.max_steps=1", "eval.untuned=false", "--json").json["training"]["steps"] == 1
