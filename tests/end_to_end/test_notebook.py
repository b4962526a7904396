"""In a notebook, progress is readable: from a command in a cell and from Python."""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from red_cli import console

MISSING = [name for name in ("nbconvert", "nbformat", "ipykernel") if importlib.util.find_spec(name) is None]
ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / "docs" / "notebooks" / "quickstart.ipynb"
REFUSED = "!red train {file}"
# A command in a cell is a process that imports torch; these run in this process instead
SHORT = ("check", "report", "predict")


@pytest.mark.parametrize(
    ("variables", "found"),
    [
        ({}, False),
        ({"JPY_PARENT_PID": "1"}, True),
        ({"MPLBACKEND": "module://matplotlib_inline.backend_inline"}, True),
        ({"MPLBACKEND": "agg"}, False),
    ],
)
def test_a_notebook_is_known(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], found: bool) -> None:
    for name in ("JPY_PARENT_PID", "MPLBACKEND"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert console.in_notebook() == found
    monkeypatch.setenv("FORCE_COLOR", "1")  # as kernels do
    assert console.console_of(stderr=True).is_terminal != found
    assert not console.console_of(stderr=True).is_jupyter
    monkeypatch.setattr("sys.stdin", type("Terminal", (), {"isatty": lambda self: True})())
    assert console.is_typed() != found


@pytest.mark.slow
@pytest.mark.skipif(bool(MISSING), reason=f"needs {' and '.join(MISSING)}")
def test_the_notebook_of_the_documentation(
    red: Callable[..., Any], data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it stands, but for fewer steps, and with a cell that is refused."""
    import nbformat

    file = tmp_path / "reviews.csv"
    file.write_text((data / "train.csv").read_text())
    notebook = nbformat.read(NOTEBOOK, 4)
    sources = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    short = [source for source in sources if source.startswith(tuple(f"!red {name} " for name in SHORT))]
    assert len(short) == len(SHORT)
    run = [*(source for source in sources if source not in short), REFUSED.format(file=file)]
    cells = [nbformat.v4.new_code_cell(changed(source)) for source in run]
    path = tmp_path / "notebook.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    paths = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    own = {name: str(tmp_path / name) for name in ("IPYTHONDIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR")}
    command = [sys.executable, "-m", "nbconvert", "--execute", "--to", "notebook", "--output", "done", str(path)]
    environment = {**os.environ, **own, "PYTHONPATH": paths}
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    executed = nbformat.read(tmp_path / "done.ipynb", 4).cells
    shell = next(cell for cell in executed if "red_cli train quickstart" in cell.source)
    python = next(cell for cell in executed if "train_recipe(" in cell.source)
    for cell, folder in ((shell, "runs/quickstart-seed42"), (python, "runs/quickstart-seed43")):
        text = printed(cell)
        lines = text.splitlines()
        assert "Traceback" not in text
        assert "\x1b" not in text
        assert len(lines) < 60
        assert sum("step 6/6" in line for line in lines) == 1  # the evaluation, with its scores
        assert any(line.startswith("run folder") and line.endswith(folder) for line in lines)
    assert "runs/quickstart-seed43 6" in printed(python)
    assert "--yes" in printed(executed[-1])  # no question, which nobody could answer
    monkeypatch.chdir(tmp_path)
    for source in short:
        outcome = red(*shlex.split(source)[1:])
        assert outcome.code == 0, outcome.err


def changed(source: str) -> str:
    """A cell that this interpreter runs, in six steps."""
    source = source.replace("!red ", f"!{sys.executable} -m red_cli ").replace(
        "train.max_steps=38", "train.max_steps=6"
    )
    return source.replace("train quickstart", "train quickstart train.max_steps=6")


def test_the_notebook_holds_little() -> None:
    """Outputs are small, and name no folder of a machine."""
    text = NOTEBOOK.read_text()
    assert len(text) < 40_000
    assert "image/png" not in text
    assert not re.search(r"/(?:home|root|work|tmp)/", text)


def printed(cell: Any) -> str:
    """All that a cell shows. A terminal ends lines by \\r\\n; what is left of \\r would overwrite a line."""
    assert {output.output_type for output in cell.outputs} == {"stream"}
    text = "".join(output.text for output in cell.outputs).replace("\r\n", "\n")
    assert "\r" not in text
    return text
