"""Run a page as a reader would: bash runs its commands in one folder, `red` and Python in this process.

The blocks become one bash script in which each line stands at its line of the page. In it, `red` is a function that
asks this process, through a socket, to run the command with the caller's folder, variables, input and output. A process
of its own would import torch each time.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import select
import shlex
import socket
import stat
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest

from tests.documents.pages import Block

Run = Callable[..., object]  # the fixture `red`
_FILE = re.compile(r"# (\S+\.ya?ml)\n")
_EXIT_CODE = re.compile(r"# exit code (\d+)\s*$")
_OF_BASH = {"_", "SHLVL", "PWD", "OLDPWD"}
_FDS = 3
_WRONG_CODE = 70
_PREAMBLE = """\
set -eEo pipefail
ask() { "$RED_TEST_PYTHON" -I -S "$RED_TEST_ASK" "$@"; }
red() { ask red "${BASH_LINENO[0]}" "$@"; }
red-cli() { ask red "${BASH_LINENO[0]}" "$@"; }
trap 'echo "$LINENO $BASH_COMMAND" > "$RED_TEST_FAILED"' ERR
source "$1"
"""
_ASK = """\
import json, os, socket, sys
client = socket.socket(socket.AF_UNIX)
client.connect(os.environ["RED_TEST_SOCKET"])
request = json.dumps([sys.argv[1:], os.getcwd(), dict(os.environ)]).encode()
socket.send_fds(client, [len(request).to_bytes(4, "big")], [0, 1, 2])
client.sendall(request)
sys.exit(client.recv(1)[0])
"""


class Failed(AssertionError):
    """A block of a page did not do what the page says."""


def run_blocks(
    page: str, blocks: Sequence[Block], folder: Path, red: Run, extra_keys: Mapping[str, Sequence[str]]
) -> None:
    """Run the bash, python and yaml blocks of a page in `folder`, in order.

    `extra_keys` maps the beginning of a command, such as `train glue_rte`, to arguments that are added to it. Raises
    Failed with page, line, command and output for a command whose exit code is not 0, or not that of a comment
    `# exit code N` behind it, and for Python that raises.
    """
    Reader(page, blocks, folder, red, extra_keys).run()


class Reader:
    """A page being run. Python blocks share one namespace; folder and variables of bash last for the page."""

    def __init__(
        self, page: str, blocks: Sequence[Block], folder: Path, red: Run, extra_keys: Mapping[str, Sequence[str]]
    ) -> None:
        self.page, self.folder, self.red, self.extra_keys = page, folder, red, extra_keys
        self.blocks = {block.line: block for block in blocks}
        self.lines = script_of(blocks)
        self.names: dict[str, object] = {"__name__": "__main__"}
        self.failure = ""

    def run(self) -> None:
        with tempfile.TemporaryDirectory(prefix="red-page-") as hidden, socket.socket(socket.AF_UNIX) as server:
            own = {name: str(Path(hidden, name)) for name in ("page", "ask", "socket", "failed", "output")}
            Path(own["page"]).write_text("\n".join(self.lines) + "\n")
            Path(own["ask"]).write_text(_ASK)
            server.bind(own["socket"])
            server.listen()
            environment = {
                **os.environ,
                **{f"RED_TEST_{name.upper()}": path for name, path in own.items()},
                "RED_TEST_PYTHON": sys.executable,
            }
            with Path(own["output"]).open("w") as output:
                shell = subprocess.Popen(
                    ["bash", "-c", _PREAMBLE, "bash", own["page"]],
                    cwd=self.folder, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                )  # fmt: skip
                try:
                    while shell.poll() is None and not self.failure:
                        if select.select([server], [], [], 0.02)[0]:
                            self.answer(server)
                finally:
                    shell.kill()
                    shell.wait()
            if self.failure:
                raise Failed(self.failure)
            if shell.returncode:
                line, _, command = _read(own["failed"]).partition(" ")
                raise Failed(self.told(int(line or 0), command.strip(), shell.returncode, _read(own["output"])))

    def answer(self, server: socket.socket) -> None:
        """Do what one call of `ask` wants, and answer with its exit code."""
        client, _ = server.accept()
        with client:
            size, fds, _, _ = socket.recv_fds(client, 4, _FDS)
            request = b""
            while len(request) < int.from_bytes(size, "big"):
                request += client.recv(1 << 16)
            (kind, line, *arguments), folder, variables = json.loads(request)
            with contextlib.ExitStack() as files, pytest.MonkeyPatch.context() as patch:
                given = files.enter_context(os.fdopen(fds[0], "rb"))
                out, err = (files.enter_context(os.fdopen(fd, "w", encoding="utf-8")) for fd in fds[1:])
                patch.chdir(folder)
                for name in variables.keys() - _OF_BASH:
                    if os.environ.get(name) != variables[name] and not name.startswith("RED_TEST_"):
                        patch.setenv(name, variables[name])
                if kind == "red":
                    code = self.run_red(patch, int(line), arguments, given, out, err)
                else:
                    code = self.run_block(self.blocks[int(line)], Path(folder))
            client.sendall(bytes([code]))

    def run_red(
        self, patch: pytest.MonkeyPatch, line: int, arguments: list[str], given: io.BufferedReader, out: io.TextIOBase,
        err: io.TextIOBase,
    ) -> int:  # fmt: skip
        """Run one command; returns what bash shall see: 0 where the exit code is the page's."""
        text = given.read() if _holds_text(given) else b""
        patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text), encoding="utf-8"))
        outcome = self.red(*arguments, *self.extra_arguments(arguments))
        with contextlib.suppress(BrokenPipeError):  # `| head`
            out.write(outcome.out)
            out.flush()
            err.write(outcome.err)
        expected = self.expected_code(line)
        if outcome.code == expected:
            return 0
        self.failure = self.failure or self.told(
            line, shlex.join(["red", *arguments]), outcome.code, outcome.out + outcome.err, expected
        )
        return outcome.code or _WRONG_CODE

    def extra_arguments(self, arguments: list[str]) -> list[str]:
        command = " ".join(arguments)
        return [key for start, keys in self.extra_keys.items() if f"{command} ".startswith(f"{start} ") for key in keys]

    def expected_code(self, line: int) -> int:
        """The code behind the command whose first line this is."""
        while self.lines[line - 1].endswith("\\"):
            line += 1
        found = _EXIT_CODE.search(self.lines[line - 1])
        return int(found[1]) if found else 0

    def run_block(self, block: Block, folder: Path) -> int:
        """Write a YAML block to its file, or run a Python block; returns an exit code."""
        if block.language == "yaml":
            name = _FILE.match(block.text)
            assert name
            path = folder / name[1]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text)
            return 0
        code = "\n" * (block.line - 1) + block.text
        try:
            exec(compile(code, self.page, "exec"), self.names)
        except Exception as error:
            lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == self.page]
            line = (lines or [block.line])[-1] or block.line
            what = code.splitlines()[line - 1].strip()
            self.failure = self.failure or self.told(line, what, 1, "".join(traceback.format_exception(error)[-3:]))
            return 1
        return 0

    def told(self, line: int, command: str, code: int, output: str, expected: int = 0) -> str:
        return f"{self.page}:{line}: {command}\nexit code {code}, not {expected}\n{output[-4000:]}"


def script_of(blocks: Sequence[Block]) -> list[str]:
    """Lines of bash: the page's commands, each at its line; other blocks are a call at their first line."""
    lines: list[str] = []
    for block in blocks:
        if block.not_run:
            continue
        if block.language in ("bash", "sh", "shell"):
            text = block.text.splitlines()
        elif block.language == "python" or (block.language == "yaml" and _FILE.match(block.text)):
            text = [f"ask block {block.line}"]
        else:
            continue
        lines += [""] * (block.line - 1 - len(lines)) + text
    return lines


def _holds_text(file: io.BufferedReader) -> bool:
    mode = os.fstat(file.fileno()).st_mode
    return stat.S_ISFIFO(mode) or stat.S_ISREG(mode)


def _read(path: str) -> str:
    return Path(path).read_text(errors="replace") if Path(path).exists() else ""
