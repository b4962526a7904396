"""The Dockerfile: what it copies and installs, on a CPU and with CUDA."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

tomllib = pytest.importorskip("tomllib", reason="needs Python 3.11 to read pyproject.toml")

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LINES = [line for line in (ROOT / "Dockerfile").read_text().splitlines() if line and not line.startswith("#")]
STEPS = [tuple(line.split(maxsplit=1)) for line in LINES]
ARGUMENTS = dict(text.split("=") for instruction, text in STEPS if instruction == "ARG")
COPIES = [text.split() for instruction, text in STEPS if instruction == "COPY"]
IN_CONTEXT = {line.removeprefix("!") for line in (ROOT / ".dockerignore").read_text().split() if line.startswith("!")}


def pip_commands(folder: Path, **arguments: str) -> list[list[str]]:
    """The words of each pip command, as the shell of a build with `arguments` hands them over."""
    pip = folder / "pip"
    pip.write_text('#!/bin/sh\nprintf "%s\\0" "$@"\n')
    pip.chmod(0o755)
    environment = {**ARGUMENTS, **arguments, "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}
    outputs = [
        subprocess.run(["/bin/sh", "-c", text], cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
        for instruction, text in STEPS
        if instruction == "RUN" and "pip " in text
    ]
    return [output.stdout.split("\0")[:-1] for output in outputs]


def option(words: list[str], name: str) -> str:
    return words[words.index(name) + 1]


def test_every_instruction_is_known() -> None:
    known = {"FROM", "ARG", "WORKDIR", "COPY", "RUN", "USER", "ENTRYPOINT", "CMD"}
    assert {instruction for instruction, _ in STEPS} <= known
    assert STEPS[0][0] == "FROM"


def test_the_image_has_a_python_that_the_project_takes() -> None:
    version = re.fullmatch(r"python:(\d\.\d+)-slim", STEPS[0][1])
    assert version is not None
    assert SpecifierSet(PROJECT["requires-python"]).contains(version[1])
    assert f"Programming Language :: Python :: {version[1]}" in PROJECT["classifiers"]


def test_what_is_copied_is_in_the_context_and_before_it_is_used() -> None:
    copied = {source for *sources, _ in COPIES for source in sources}
    assert copied == IN_CONTEXT
    assert all((ROOT / source).exists() for source in copied)
    built = LINES.index(next(line for line in LINES if '".[' in line))
    assert all(LINES.index("COPY " + " ".join(copy)) < built for copy in COPIES)
    needed = {PROJECT["readme"], *PROJECT["license-files"], "pyproject.toml", "red_cli", "recipes"}
    assert needed <= copied


@pytest.mark.parametrize("build", ["cpu", "cu130"])
def test_torch_comes_from_the_index_of_the_build(tmp_path: Path, build: str) -> None:
    torch, project = pip_commands(tmp_path, TORCH=build)
    assert torch[0] == project[0] == "install"
    assert option(torch, "--index-url") == f"https://download.pytorch.org/whl/{build}"
    listed = re.findall(r"^torch==\S+", (ROOT / "scripts" / "constraints.txt").read_text(), re.MULTILINE)
    assert [torch[-1]] == listed  # what the second command's constraints take as well
    assert Requirement(torch[-1]).name == "torch"
    assert option(project, "--constraint") == "scripts/constraints.txt"


def test_the_extras_are_those_of_the_project(tmp_path: Path) -> None:
    for extras in (ARGUMENTS["EXTRAS"], "lm-eval"):
        _, project = pip_commands(tmp_path, EXTRAS=extras)
        wanted = Requirement(f"red-finetune{project[-1].removeprefix('.')}")
        assert wanted.extras == set(extras.split(","))
        assert wanted.extras <= PROJECT["optional-dependencies"].keys()


def test_the_image_runs_red_without_root() -> None:
    steps = dict(STEPS)
    assert steps["ENTRYPOINT"] == '["red"]'
    assert "red" in PROJECT["scripts"]
    assert steps["USER"] == "red"
    assert any(shlex.split(text)[:1] == ["useradd"] for instruction, text in STEPS if instruction == "RUN")
