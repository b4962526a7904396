"""`red check` fits a terminal of 80 columns and 24 lines, and shows classes, doubled rows and what counts."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.cells import cell_len

from tests.conftest import Outcome
from tests.end_to_end.test_instruction_tuning import talking_base
from tests.tiny import NEGATIVE, POSITIVE

WIDE = 200


def write_reviews(folder: Path) -> Path:
    """A file of four uneven classes, with a doubled, a contradictory and a blank row."""
    rows = [
        (f"the film was {word} and {other} and rather {third}", f"{kind}{number % 2}")
        for kind, words in (("good", POSITIVE), ("bad", NEGATIVE))
        for number, (word, other, third) in enumerate((a, b, c) for a in words for b in words for c in words)
        if kind == "good" or number < 16
    ]
    rows += [rows[0], (rows[2][0], "bad0"), (" ", "good0")]
    with (folder / "reviews.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("review", "verdict"), *rows])
    return folder / "reviews.csv"


def write_talks(folder: Path) -> Path:
    talks = [
        [
            {"role": "user", "content": f"{'abcdef'[number % 6]} {'bcdefa'[number // 6]} " * 4},
            {"role": "assistant", "content": "f e d"},
            {"role": "user", "content": "c"},
            {"role": "assistant", "content": "b"},
        ]
        for number in range(36)
    ]
    (folder / "talks.jsonl").write_text("".join(json.dumps({"messages": talk}) + "\n" for talk in talks))
    return folder / "talks.jsonl"


@pytest.fixture
def checked(
    tmp_path: Path, base: Path, red: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Outcome]:
    """Check a data file of the task in a terminal of this width; its recipe is there already from the second time."""
    monkeypatch.chdir(tmp_path)

    def check(task: str, columns: int, *options: str) -> Outcome:
        if task == "classification":
            file, model = write_reviews(tmp_path).name, base
        else:
            model = tmp_path / "base" if (tmp_path / "base").is_dir() else talking_base(tmp_path / "base")
            file = write_talks(tmp_path).name
        monkeypatch.setenv("COLUMNS", str(columns))
        outcome = red("check", file, f"model.name_or_path={model}", "train.micro_batch_size=4", *options)
        assert outcome.code == 0, outcome.err
        return outcome

    return check


@pytest.mark.parametrize("task", ["classification", "instruction"])
def test_one_screen(task: str, checked: Callable[..., Outcome], tmp_path: Path) -> None:
    for _ in range(2):  # the recipe is written, then reused
        lines = checked(task, 80).out.splitlines()
        assert len(lines) <= 23  # and the shell's next prompt
        assert max(cell_len(line) for line in lines if tmp_path.parts[1] not in line) <= 80  # paths stay whole
    assert not any(line.startswith(("devices", "train:")) for line in lines)
    wide = checked(task, WIDE, "--yaml", "--device-memory", "8").out.splitlines()
    assert 80 < max(map(cell_len, wide)) <= WIDE
    assert "train:" in wide
    assert any(line.startswith("devices") for line in wide)


def test_classes_and_what_is_worth_a_look(checked: Callable[..., Outcome]) -> None:
    found = checked("classification", 80, "--json").json["data"]
    assert found["doubled"]["train"] + found["also_in_train"]["validation"] + found["doubled"]["validation"] >= 2
    assert sum(found["blank"].values()) == 1
    assert {row["label"] for row in found["rows"]} == {"good0", "good1", "bad0", "bad1"}
    assert all(row["spans"][0][1].startswith("[CLS]") for row in found["rows"])
    lines = checked("classification", 80).out.splitlines()
    bars = [line.count("█") for line in lines if line.startswith(("good", "bad"))]
    assert len(bars) == 4
    assert bars == sorted(bars, reverse=True)
    assert any("blank" in line for line in lines)


def test_what_counts_in_a_conversation(checked: Callable[..., Outcome]) -> None:
    [row] = checked("instruction", 80, "--json").json["data"]["rows"]
    counting = "".join(text for counts, text in row["spans"] if counts)
    assert "fed" in counting.replace(" ", "")
    assert "a" not in counting
    assert sum(line.startswith("→ ") for line in checked("instruction", 80).out.splitlines()) == 2
