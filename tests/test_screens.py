"""The output of each command, compared with tests/golden/screens/<command>.txt.

Figures that differ between machines and versions are masked. After an intended change, check the difference and record
it:

    python -m pytest -n 0 tests/test_screens.py --record-screens
"""

from __future__ import annotations

import difflib
import io
import re
import shutil
from pathlib import Path

import pytest

from tests.conftest import Outcome, run_red, write_recipe
from tests.end_to_end.test_instruction_tuning import talk_data, talk_recipe, talking_base

SCREENS = Path(__file__).parent / "golden" / "screens"
PUBLISHED = Path(__file__).parent / "data" / "golden" / "roberta_ffn"
COLUMNS = "100"
FIGURE = r"[\d,]+(?:\.\d+)?(?:e[+-]\d+)?"
CLOCK = r"^\d\d:\d\d:\d\d  "
MASKS = [
    (re.compile(r"\x1b\[[0-9;]*m"), ""),
    # lines that appear only where steps are slow
    (re.compile(rf"{CLOCK}(?:(?:step|evaluated|decoded) \d.*|[^:\n]+: \d+ (?:s|min \d+ s))\n", re.MULTILINE), ""),
    (re.compile(CLOCK, re.MULTILINE), "##:##:##  "),
    # the length of a temporary folder decides whether they share a line
    (re.compile(r"^(base +FOLDER\S*)\n +(\w+, [\d,]+ parameters)$", re.MULTILINE), r"\1 (\2)"),
    # how much memory the libraries take decides even the unit
    (re.compile(rf"\b{FIGURE} ?(KB|MB|GB|KiB|MiB|GiB)\b"), "# bytes"),
    (re.compile(rf"\b{FIGURE}( ?)(ms|s|min)\b"), r"#\1\2"),
    (re.compile(r"\b\d+(\.\d+)?e[+-]\d+\b"), "#"),
    (re.compile(r"\b\d+\.\d+(?=%| |$|\)|,|;|/)", re.MULTILINE), "#"),
    (re.compile(r"\b[\d,]+ (rows|tokens)/s"), r"# \1/s"),
    (re.compile(r" +\d+ +\d+M\b"), " #  #M"),  # milliseconds a step and memory of a comparison
    (re.compile(r"[▁▂▃▄▅▆▇█]+"), "▁▂▃"),
    (re.compile(r" +#"), " #"),  # the width of a masked figure is masked as well
]

# Name of the screen -> the command's arguments; {folder} is the folder of all runs. A screen needs those above it.
SCENES = {
    "recipes": ("recipes",),
    "recipes_copy": ("recipes", "copy", "quickstart", "{folder}/copied"),
    "check": ("check", "{folder}/reviews.yaml"),
    "train": ("train", "{folder}/reviews.yaml"),
    "train_again": ("train", "{folder}/reviews.yaml"),
    "train_seeds": ("train", "{folder}/reviews.yaml", "--seeds", "1,2", "output.dir={folder}/seeds",
                    "train.max_steps=2"),
    "train_together": ("train", "{folder}/reviews.yaml", "--seeds", "3,4", "--together", "output.dir={folder}/together",
                       "train.max_steps=2"),
    "eval": ("eval", "{folder}/run"),
    "predict": ("predict", "{folder}/run", "--text", "a good film", "--text", ""),
    "predict_file": ("predict", "{folder}/run", "{folder}/data/train.csv", "-o", "{folder}/predicted.csv"),
    "export": ("export", "{folder}/run", "--output", "{folder}/merged"),
    "export_adapter": ("export", "{folder}/run", "--output", "{folder}/shared", "--format", "adapter"),
    "convert": ("convert", PUBLISHED, "--base", PUBLISHED / "base", "--output", "{folder}/converted"),
    "report": ("report", "{folder}/run"),
    "report_of_several": ("report", "{folder}/seeds", "--output", "{folder}/report"),
    "compare": ("compare", "{folder}/reviews.yaml", "--methods", "red,head,none", "--seeds", "1", "train.max_steps=1",
                "output.dir={folder}/compared"),
    "compare_grid": ("compare", "{folder}/reviews.yaml", "--grid", "train.learning_rate=1e-3,1e-2", "train.max_steps=1",
                     "output.dir={folder}/grid"),
    "runs": ("runs", "{folder}/copied"),
    "score": ("score", "--predictions", "{folder}/predictions.txt", "--references", "{folder}/references.txt",
              "--metrics", "chrF"),
    "check_instruction": ("check", "{folder}/talk/talk.yaml"),
    "train_instruction": ("train", "{folder}/talk/talk.yaml", "train.max_steps=2"),
    "chat": ("chat", "{folder}/talk/run"),
    "error": ("check", "{folder}/reviews.yaml", "train.learning_rat=1", "model.dropout=2"),
    "keys": ("keys", "per_device_train_batch_size"),
    "error_command": ("merge", "{folder}/run"),
    "error_option": ("train", "{folder}/reviews.yaml", "--learning_rate", "1e-3", "--epochs=3"),
    "error_json": ("eval", "{folder}/nothing", "--json"),
}  # fmt: skip
INPUT = {"chat": "ab\n"}


@pytest.fixture(scope="module")
def screens(tmp_path_factory: pytest.TempPathFactory, base: Path, data: Path) -> tuple[dict[str, Outcome], Path]:
    """The outcome of every command, and their folder."""
    folder = tmp_path_factory.mktemp("screens")
    write_recipe(folder, shutil.copytree(base, folder / "base"), shutil.copytree(data, folder / "data"))
    (folder / "talk").mkdir()
    talk_recipe(folder / "talk", talking_base(folder / "talk" / "base"), talk_data(folder / "talk" / "data"))
    (folder / "predictions.txt").write_text("the mill serves food\n")
    (folder / "references.txt").write_text("the mill serves good food\n")
    outcomes = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", COLUMNS)
        for name, arguments in SCENES.items():
            patch.setattr("sys.stdin", io.StringIO(INPUT.get(name, "")))
            outcomes[name] = run_red(*(str(argument).format(folder=folder) for argument in arguments))
    return outcomes, folder


def masked(text: str, folder: Path) -> str:
    text = text.replace(str(folder), "FOLDER").replace(str(PUBLISHED), "PUBLISHED").replace(folder.name, "FOLDER")
    for pattern, replacement in MASKS:
        text = pattern.sub(replacement, text)
    return "".join(f"{line.rstrip()}\n" for line in text.splitlines())


def test_screens(screens: tuple[dict[str, Outcome], Path], request: pytest.FixtureRequest) -> None:
    """One test for all, since each worker of a test run would repeat the commands."""
    outcomes, folder = screens
    differences = []
    for name, outcome in outcomes.items():
        command = masked(" ".join(map(str, SCENES[name])).format(folder=folder), folder)
        text = f"$ red {command}{masked(outcome.out, folder)}--- standard error\n{masked(outcome.err, folder)}"
        text += f"--- exit code {outcome.code}\n"
        file = SCREENS / f"{name}.txt"
        if request.config.getoption("--record-screens"):
            file.parent.mkdir(exist_ok=True)
            file.write_text(text)
        differences += difflib.unified_diff(
            file.read_text().splitlines(), text.splitlines(), file.name, "shown now", lineterm="", n=1
        )
    assert not differences, "\n".join(differences)


def test_every_command_has_a_screen() -> None:
    from red_cli.cli import app

    names = {command.name or command.callback.__name__ for command in app.registered_commands}
    names |= {group.name for group in app.registered_groups}
    assert names - {"schema"} <= {arguments[0] for arguments in SCENES.values()}  # a schema is data
