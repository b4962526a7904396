"""From a data file to a trained run: what the commands write, ask and refuse."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Outcome
from tests.failures import assert_failed


@pytest.fixture
def reviews(tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A training file without others, in the working directory."""
    monkeypatch.chdir(tmp_path)
    return Path(shutil.copy(data / "train.csv", tmp_path / "reviews.csv"))


def test_a_file_is_trained_with_yes(red: Callable[..., Outcome], base: Path, reviews: Path) -> None:
    given = (f"model.name_or_path={base}", "train.micro_batch_size=8")
    asked = red("train", "reviews.csv", *given, "train.max_steps=2", "--json")
    assert_failed(asked, "not-confirmed", "reviews.yaml", "--yes", "train.max_steps=2")
    assert not Path("runs").exists()
    text = Path("reviews.yaml").read_text()
    done = red("train", "reviews.csv", "--yes", "train.max_steps=2", "train.micro_batch_size=8", "--json")
    assert done.code == 0, done.err
    assert done.json["folder"] == "runs/reviews-seed42"
    assert done.json["training"]["steps"] == 2
    assert Path("reviews.yaml").read_text() == text


@pytest.mark.parametrize(("answer", "trained"), [("\n", True), ("n\n", False)])
def test_the_question_on_a_terminal(
    answer: str, trained: bool, red: Callable[..., Outcome], base: Path, reviews: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import io
    import sys

    class Keyboard(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr("sys.stdin", Keyboard(answer))
    monkeypatch.setattr(type(sys.stdout), "isatty", lambda self: True)
    outcome = red("train", "reviews.csv", f"model.name_or_path={base}", "train.max_steps=1", "train.micro_batch_size=8")
    assert outcome.code == 0, outcome.err
    assert Path("runs/reviews-seed42/metrics.json").is_file() == trained
    assert Path("reviews.yaml").is_file()


def test_a_folder_with_a_training_file(red: Callable[..., Outcome], base: Path, data: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(data, tmp_path / "mails"))
    outcome = red("check", folder, f"model.name_or_path={base}", "--json")
    assert outcome.code == 0, outcome.err
    found = outcome.json["recipe"]["data"]
    assert (found["train"], found["validation"]) == (str(folder / "train.csv"), str(folder / "validation.csv"))
    assert (folder / "mails.yaml").is_file()


@pytest.mark.parametrize(
    ("arguments", "code", "fact"),
    [
        (("nothing.csv",), "file-not-found", "nothing.csv"),
        (("reviews.csv", "--variant", "small"), "invalid-option", "--variant"),
        (("reviews.csv", "train.learning_rat=1"), "unknown-key", "learning_rat"),
        (("reviews.csv", "model.name_or_path=/no/such/base"), "base-not-found", "/no/such/base"),
    ],
)
def test_mistakes(arguments: tuple[str, ...], code: str, fact: str, red: Callable[..., Outcome], reviews: Path) -> None:
    outcome = red("train", *arguments, "--yes", "--json")
    assert outcome.code == 2
    assert code in outcome.out
    assert fact in outcome.out
    assert not Path("reviews.yaml").exists()


def test_a_missing_file_names_one_that_is_there(red: Callable[..., Outcome], reviews: Path) -> None:
    assert_failed(red("train", "review.csv", "--json"), "file-not-found", "review.csv", "reviews.csv?")
