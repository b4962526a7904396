"""In a notebook, progress is readable: from a command in a cell and from Python."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from red_cli import console

MISSING = [name for name in ("nbconvert", "nbformat", "ipykernel") if importlib.util.find_spec(name) is None]
COMMAND = "!{python} -m red_cli train {recipe} output.dir=shell train.max_steps=6"
TRAIN = """\
import red_cli

result = red_cli.train_recipe({recipe!r}, "output.dir=python", "train.max_steps=6")
print(result["folder"], result["training"]["steps"])"""
REFUSED = "!{python} -m red_cli train {file}"


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
def test_cells(recipe: Path, data: Path, tmp_path: Path) -> None:
    import nbformat

    file = tmp_path / "reviews.csv"
    file.write_text((data / "train.csv").read_text())
    cells = [text.format(python=sys.executable, recipe=str(recipe), file=file) for text in (COMMAND, TRAIN, REFUSED)]
    path = tmp_path / "notebook.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells]), path)
    root = str(Path(__file__).parents[2])
    paths = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
    own = {name: str(tmp_path / name) for name in ("IPYTHONDIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR")}
    command = [sys.executable, "-m", "nbconvert", "--execute", "--to", "notebook", "--output", "done", str(path)]
    environment = {**os.environ, **own, "PYTHONPATH": paths}
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    shell, python, refused = nbformat.read(tmp_path / "done.ipynb", 4).cells
    for cell in (shell, python):
        text = printed(cell)
        lines = text.splitlines()
        assert "Traceback" not in text
        assert "\x1b" not in text
        assert len(lines) < 60
        assert sum("step 6/6" in line for line in lines) == 1  # the evaluation, with its scores
        assert any(line.startswith("run folder") and line.endswith(folder(cell is shell)) for line in lines)
    assert f"{folder(False)} 6" in printed(python)
    assert "--yes" in printed(refused)  # no question, which nobody could answer


def printed(cell: Any) -> str:
    """All that a cell shows. A terminal ends lines by \\r\\n; what is left of \\r would overwrite a line."""
    assert {output.output_type for output in cell.outputs} == {"stream"}
    text = "".join(output.text for output in cell.outputs).replace("\r\n", "\n")
    assert "\r" not in text
    return text


def folder(of_shell: bool) -> str:
    return "shell" if of_shell else "python"
