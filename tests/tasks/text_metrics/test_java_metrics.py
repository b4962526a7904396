"""METEOR, ROUGE_L and CIDEr: their figures, and errors if Java is missing, dies or hangs."""

from __future__ import annotations

import importlib.util
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from red_cli.errors import RunFailed
from red_cli.tasks.text_metrics import java
from red_cli.tasks.text_metrics.score import score_texts
from red_cli.tasks.text_metrics.text_files import read_texts
from tests.extras import needs_extra, needs_java
from tests.failures import assert_failed, fails

pytestmark = needs_extra("nlg")

TEXTS = ["the mill is a cheap pub", "Zizzi serves, near Café Rouge, good food."]


@needs_java
def test_figures_by_hand() -> None:
    # with one reference that is the text itself, every n-gram counts fully
    scores = score_texts(TEXTS, [[TEXTS[0].upper()], ["zizzi serves near Café Rouge good food"]], ["ROUGE_L", "CIDEr"])
    assert scores == {"ROUGE_L": pytest.approx(1.0), "CIDEr": pytest.approx(10.0)}
    # longest common subsequence: 3 of 4 words, of 4 and of 6; precision and recall are the best of any reference's
    rouge = score_texts(["a b c d"], [["a c d e", "x a b c d y"]], ["ROUGE_L"])["ROUGE_L"]
    precision, recall, beta = 1.0, 3 / 4, 1.2
    assert rouge == pytest.approx((1 + beta**2) * precision * recall / (recall + beta**2 * precision))


@needs_java
def test_empty_texts_keep_their_place() -> None:
    predictions, references = ["", *TEXTS, "", "..."], [["x"], [TEXTS[0]], [TEXTS[1], "Zizzi!"], ["y"], ["z"]]
    assert score_texts(predictions, references, ["ROUGE_L"])["ROUGE_L"] == pytest.approx(2 / 5)


@pytest.mark.slow
@needs_java
def test_the_users_language_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LC_ALL", "C")
    monkeypatch.setenv("JAVA_TOOL_OPTIONS", "-Duser.language=de -Dfile.encoding=US-ASCII")  # 1,5 and no é
    assert score_texts(TEXTS, [[text.upper()] for text in TEXTS], ["METEOR"]) == {"METEOR": pytest.approx(1.0)}


@needs_java
def test_nothing_is_written_beside_the_package() -> None:
    folder = Path(next(iter(importlib.util.find_spec("pycocoevalcap").submodule_search_locations)))  # type: ignore
    files = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if "__pycache__" not in path.parts}
    score_texts(TEXTS, [TEXTS, TEXTS], ["ROUGE_L"])
    now = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if "__pycache__" not in path.parts}
    assert now == files


PUBLISHED = {
    "gpt2_medium_e2e_red": {"METEOR": 0.4503, "ROUGE_L": 0.6761, "CIDEr": 2.2333},
    "gpt2_medium_e2e_redpp": {"METEOR": 0.4628, "ROUGE_L": 0.6963, "CIDEr": 2.3810},
}


@pytest.mark.slow
@needs_java
@pytest.mark.parametrize(("folder", "expected"), PUBLISHED.items())
def test_published_predictions(red, shared: Path, folder: str, expected: dict[str, float]) -> None:
    published = shared / "published"
    files = published / folder / "pred.txt", published / "gpt2_medium_e2e_red" / "label.txt"
    result = red("score", "--predictions", files[0], "--references", files[1], "--json").json
    assert list(result["scores"]) == ["BLEU", "NIST", "METEOR", "ROUGE_L", "CIDEr"]
    assert {name: round(result["scores"][name], 4) for name in expected} == expected


@needs_java
def test_published_predictions_without_meteor(shared: Path) -> None:
    folder = shared / "published" / "gpt2_medium_e2e_red"
    scores = score_texts(*read_texts(folder / "pred.txt", folder / "label.txt"), ["ROUGE_L", "CIDEr"])
    assert {name: round(value or 0, 4) for name, value in scores.items()} == {"ROUGE_L": 0.6761, "CIDEr": 2.2333}


@pytest.fixture
def fake_java(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], Path]:
    """Put a `java` in PATH that runs `tokenizer` as the tokenizer and `meteor` as METEOR; return its folder."""

    def make(tokenizer: str, meteor: str) -> Path:
        folder = tmp_path / "bin"
        folder.mkdir()
        program = folder / "java"
        program.write_text(
            f"#!/bin/sh\necho $$ >> {folder}/started\n"
            f'case "$*" in\n*PTBTokenizer*) {tokenizer} ;;\n*) {meteor} ;;\nesac\n'
        )
        program.chmod(0o755)
        monkeypatch.setenv("PATH", str(folder))
        monkeypatch.delenv("JAVA_HOME", raising=False)
        monkeypatch.setattr(java, "_EXIT_TIMEOUT", 0.5)
        return folder

    return make


CAT = "exec /bin/cat"  # a tokenizer that leaves texts as they are

# name -> (what the tokenizer does, what METEOR does, fact of the message)
DEATHS = {
    "tokenizer fails": ("echo 'no heap' >&2; exit 3", "exit 0", "the tokenizer of METEOR, ROUGE_L and CIDEr: its Java "
                        "process ended with code 3: no heap"),
    "tokenizer killed": ("kill -9 $$", "exit 0", "process was killed by signal 9"),
    "tokenizer loses lines": ("echo", "exit 0", "2 lines for 3 texts"),
    "METEOR fails at once": (CAT, "exit 1", "METEOR: its Java process ended with code 1"),
    "METEOR has no heap": (CAT, "echo 'Error: no heap'; exit 1", "Java process ended with code 1: Error: no heap"),
    "METEOR dies midway": (CAT, "read x; echo 1 2; echo 'java.lang.OutOfMemoryError: space' >&2; exit 1",
                           "ended with code 1: java.lang.OutOfMemoryError: space"),
    "METEOR dies at the end": (CAT, "read x; echo 1; read x; echo 1; read x; echo 1; read x; echo 0.1; kill -9 $$",
                               "METEOR: its Java process was killed by signal 9"),
    "METEOR makes no sense": (CAT, "while read x; do echo what; done", "Java process gave an invalid answer: what"),
}  # fmt: skip


@pytest.mark.parametrize(("tokenizer", "meteor", "fact"), DEATHS.values(), ids=DEATHS.keys())
def test_a_java_process_that_dies(red, tmp_path: Path, fake_java, tokenizer: str, meteor: str, fact: str) -> None:
    folder = fake_java(tokenizer, meteor)
    predictions, references = tmp_path / "predictions.txt", tmp_path / "references.txt"
    predictions.write_text("a\nb\nc\n")
    references.write_text("a\n\nb\n\nc\n")
    outcome = red("score", "--predictions", predictions, "--references", references, "--metrics", "METEOR", "--json")
    assert_failed(outcome, "metric-failed", fact, exit_code=1)
    assert len(outcome.err.splitlines()) == 2
    assert none_runs(folder)


@pytest.mark.parametrize(("tokenizer", "meteor"), [("/bin/sleep 100", "exit 0"), (CAT, "/bin/sleep 100")])
def test_a_java_process_that_hangs(monkeypatch: pytest.MonkeyPatch, fake_java, tokenizer: str, meteor: str) -> None:
    folder = fake_java(tokenizer, meteor)
    monkeypatch.setattr(java, "_ANSWER_TIMEOUT", 0.5)
    started = time.monotonic()
    with fails("metric-failed", "0.5 seconds", kind=RunFailed):
        score_texts(["a"], [["a"]], ["METEOR"])
    assert time.monotonic() - started < 60  # not the 100 seconds that it hangs
    assert none_runs(folder)


def test_a_java_that_is_no_program(fake_java) -> None:
    folder = fake_java("exit 0", "exit 0")
    (folder / "java").write_bytes(b"\x00\x01")
    with fails("metric-failed", str(folder / "java"), kind=RunFailed):
        score_texts(["a"], [["a"]], ["CIDEr"])


def test_without_java_the_others_are_computed(red, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    file = tmp_path / "texts.txt"
    file.write_text("a b c d\n")
    arguments = ["score", "--predictions", file, "--references", file]
    outcome = red(*arguments, "--json")
    assert outcome.code == 0
    assert outcome.json["scores"] == {"BLEU": 1.0, "NIST": 2.0, "METEOR": None, "ROUGE_L": None, "CIDEr": None}
    assert set(outcome.json["not_computed"]) == {"METEOR", "ROUGE_L", "CIDEr"}
    lines = red(*arguments).out.splitlines()
    assert [line.split(maxsplit=1)[1] for line in lines[-4:-1]] == ["not computed"] * 3
    assert java.INSTALL_JAVA in lines[-1]


def none_runs(folder: Path) -> bool:
    """Whether no process of the fake `java` is left."""
    for pid in (folder / "started").read_text().split():
        try:
            os.kill(int(pid), 0)
        except ProcessLookupError:
            continue
        return False
    return True
