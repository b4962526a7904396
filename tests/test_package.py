"""The distributions: their metadata and files, the types that they declare, and what the texts say of both."""

from __future__ import annotations

import email
import json
import re
import subprocess
import sys
import tarfile
import zipfile
from email.message import Message
from pathlib import Path

import pytest
import yaml

import red_cli
from red_cli.runs.folder import environment

tomllib = pytest.importorskip("tomllib", reason="needs Python 3.11 to read pyproject.toml")

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
NAME = PROJECT["name"]
TEXTS = [
    path
    for folder in ("red_cli", "recipes", "docs", "scripts", "tests", "benchmarks", "tools")
    for path in sorted((ROOT / folder).rglob("*"))
    if path.suffix in (".py", ".md", ".yaml", ".sh")
] + [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "Dockerfile")]


@pytest.fixture(scope="module")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel and the source distribution."""
    folder = tmp_path_factory.mktemp("distributions")
    subprocess.run([sys.executable, "-m", "hatchling", "build", "--directory", folder], cwd=ROOT, check=True)
    return folder


@pytest.fixture(scope="module")
def wheel(distributions: Path) -> zipfile.ZipFile:
    (path,) = distributions.glob("*.whl")
    return zipfile.ZipFile(path)


@pytest.fixture(scope="module")
def metadata(wheel: zipfile.ZipFile) -> Message:
    (name,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    return email.message_from_bytes(wheel.read(name))


def test_metadata(metadata: Message) -> None:
    assert (metadata["Name"], metadata["Version"]) == (NAME, red_cli.__version__)
    assert (metadata["License-Expression"], metadata["License-File"]) == ("Apache-2.0", "LICENSE")
    urls = dict(line.split(", ") for line in metadata.get_all("Project-URL", []))
    assert urls.keys() >= {"Repository", "Documentation", "Changelog", "Issues"}
    assert all(url.startswith("https://") for url in urls.values())
    assert not any(line.startswith("License ::") for line in metadata.get_all("Classifier", []))  # SPDX replaces them


def test_the_wheel_has_recipes_types_and_both_commands(wheel: zipfile.ZipFile) -> None:
    names = set(wheel.namelist())
    sources = {path.relative_to(ROOT).as_posix() for path in (ROOT / "red_cli").rglob("*.py")}
    assert names >= sources | {"red_cli/py.typed", "red_cli/recipes/quickstart.yaml"}
    (entry_points,) = (name for name in names if name.endswith("entry_points.txt"))
    assert re.findall(rb"^(\S+) =", wheel.read(entry_points), re.MULTILINE) == [b"red", b"red-cli"]


def test_the_source_distribution_has_what_its_pages_link(distributions: Path) -> None:
    (path,) = distributions.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        files = {name.partition("/")[2] for name in archive.getnames()}
        pages = [name for name in files if re.fullmatch(r"[A-Z]+\.md|docs/.+\.md", name)]
        missing = {(page, link) for page in pages for link in local_links(ROOT / page) if link not in files}
    assert {"README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"} <= set(pages)
    assert not missing
    assert files >= {"LICENSE", "CITATION.cff", "Dockerfile", ".ci/run", "scripts/constraints.txt", "tests/tiny.py"}


def local_links(page: Path) -> set[str]:
    """The files that a page links, from the project's folder."""
    links = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text())
    return {
        (page.parent / link).resolve().relative_to(ROOT).as_posix() for link in links if not re.match(r"\w+:", link)
    }


USER = """
import red_cli
reveal_type(red_cli.attach)
reveal_type(red_cli.load)
red_cli.attach(None, "ffn", train_head=3)
red_cli.atach
"""


@pytest.mark.slow
def test_types_reach_those_who_install_the_wheel(wheel: zipfile.ZipFile, tmp_path: Path) -> None:
    """mypy finds the wheel in an environment that has nothing else."""
    pytest.importorskip("mypy", reason="needs mypy")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "empty"], check=True)
    (site,) = (tmp_path / "empty").glob("lib/python*/site-packages")
    wheel.extractall(site)
    (tmp_path / "user.py").write_text(USER)
    mypy = [sys.executable, "-m", "mypy", "--output", "json", "--python-executable", tmp_path / "empty/bin/python"]
    outcome = subprocess.run([*mypy, "user.py"], cwd=tmp_path, capture_output=True, text=True)
    found = [json.loads(line) for line in outcome.stdout.splitlines()]
    assert {each["file"] for each in found} == {"user.py"}, outcome.stdout + outcome.stderr
    notes = [each["message"] for each in found if each["severity"] == "note"]
    assert "config: red_cli.edit.config.RedConfig | None =, name: str =, *, train_head: bool |" in notes[0]
    assert notes[1].startswith('Revealed type is "def (folder: ')
    errors = [(each["line"], each["code"]) for each in found if each["severity"] == "error"]
    assert errors == [(5, "arg-type"), (5, "arg-type"), (6, "attr-defined")]


def test_hints_name_the_distribution_and_its_extras() -> None:
    found = {
        extra
        for path in TEXTS
        for extras in re.findall(rf"{NAME}\[([\w,-]+)\]", path.read_text(encoding="utf-8"))
        for extra in extras.split(",")
    }
    assert found <= PROJECT["optional-dependencies"].keys()
    earlier = "red-cli" + "["
    assert not [path for path in TEXTS if earlier in path.read_text(encoding="utf-8")]


def test_runs_record_the_version() -> None:
    assert environment()["libraries"][NAME] == red_cli.__version__


def test_the_version_has_a_dated_section_and_is_the_one_to_cite() -> None:
    section = re.search(r"^## (\S+) \((\S+)\)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert section is not None
    assert section.groups() == (red_cli.__version__, str(cited["date-released"]))
    assert (cited["version"], cited["license"]) == (red_cli.__version__, PROJECT["license"])
    assert cited["repository-code"] == PROJECT["urls"]["Repository"]
    assert f"| {red_cli.__version__.rpartition('.')[0]} | yes |" in (ROOT / "SECURITY.md").read_text()
