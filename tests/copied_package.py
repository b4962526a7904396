"""A copy of the package in which a test changes files, as whoever adds something to it does."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.conftest import Outcome

ROOT = Path(__file__).parents[1]
_COMMANDS = """
import json, sys
from tests.conftest import run_red
outcomes = [vars(run_red(*arguments)) for arguments in json.loads(sys.argv[1])]
print("\\n" + json.dumps(outcomes))
"""


class CopiedPackage:
    """A copy of `red_cli` in a folder of the test's."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.package = folder / "red_cli"
        shutil.copytree(ROOT / "red_cli", self.package, ignore=shutil.ignore_patterns("__pycache__"))

    def write(self, file: str, text: str) -> None:
        """Add a file."""
        path = self.package / file
        assert not path.exists()
        path.write_text(text)

    def change(self, file: str, *changes: tuple[str, str]) -> None:
        """Replace parts of a file, each of which it has once."""
        path = self.package / file
        text = path.read_text()
        for old, new in changes:
            assert text.count(old) == 1, f"{file}: {text.count(old)} times {old!r}"
            text = text.replace(old, new)
        path.write_text(text)

    def red(self, *commands: list[object]) -> list[Outcome]:
        """Run command lines of `red` one after the other, in one process that imports the copy."""
        given = json.dumps([[str(argument) for argument in command] for command in commands])
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(self.folder), str(ROOT))), "COLUMNS": "200"}
        process = subprocess.run(
            [sys.executable, "-c", _COMMANDS, given], env=environment, cwd=self.folder, capture_output=True, text=True
        )
        assert process.returncode == 0, process.stderr
        return [Outcome(**outcome) for outcome in json.loads(process.stdout.splitlines()[-1])]
