"""Java subprocesses with timeouts, clean-up, and captured stderr."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from red_cli.errors import RunFailed

INSTALL_JAVA = "apt-get install default-jre-headless"
WITHOUT_JAVA = "Metrics without Java: --metrics BLEU,NIST (red score), eval.metrics=[BLEU,NIST] (red eval)"
_ANSWER_TIMEOUT = 300.0  # seconds; METEOR's first answer, which waits for its tables, takes about 5
_EXIT_TIMEOUT = 5.0  # seconds in which a program that stopped answering may exit
# Encoding, decimal point and lower case must not depend on the user's locale
_LANGUAGE = ("-Dfile.encoding=UTF-8", "-Dstdout.encoding=UTF-8", "-Duser.language=en", "-Duser.country=US")

_SHORT = ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC")  # the programs run for seconds, so compile little


def find_java() -> str | None:
    """The path of `java` in JAVA_HOME or PATH; None if Java is missing."""
    home = os.environ.get("JAVA_HOME")
    of_home = shutil.which("java", path=str(Path(home) / "bin")) if home else None
    found = of_home or shutil.which("java")
    return str(Path(found).absolute()) if found else None


@contextmanager
def java_process(name: str, arguments: Sequence[str]) -> Iterator[JavaProcess]:
    """Run Java with `arguments` inside the block; messages call the program `name`.

    Raises:
        RunFailed: Java is missing or does not start; inside the block, it exits or does not answer in time.
    """
    java = find_java()
    if java is None:
        raise RunFailed(
            "missing-dependency", f"{name} needs Java, which is missing", hint=f"Install it: {INSTALL_JAVA}"
        )
    with tempfile.TemporaryFile() as errors:  # a pipe that is not read would fill up and block
        try:
            process = subprocess.Popen(  # noqa: S603 - the arguments are constants, texts go through the pipe
                [java, *_LANGUAGE, *_SHORT, *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env={**os.environ, "LC_ALL": "C.UTF-8"},
                cwd=tempfile.gettempdir(),  # where a crashing virtual machine leaves its report
                start_new_session=True,  # so that the children of a wrapper script are killed with it
            )
        except OSError as error:
            raise _failure(name, f"{java} cannot be started: {error.strerror}") from None
        running = JavaProcess(name, process, errors)
        try:
            yield running
        finally:
            running.end()


@dataclass
class JavaProcess:
    """A running Java program. Its methods raise RunFailed if it exits or does not answer in time."""

    name: str
    process: subprocess.Popen[bytes]
    errors: IO[bytes]
    timed_out: bool = False

    def run(self, text: str) -> str:
        """Send `text` and return the complete output of the program, which then exits."""
        with self._watched():
            answer, _ = self.process.communicate(text.encode(errors="replace"))
        if self.process.returncode != 0:
            raise self.failed(answer.decode(errors="replace"))
        return answer.decode()

    def ask(self, line: str, answers: int = 1) -> list[str]:
        """Send a line and return the next `answers` lines of output."""
        stdin, stdout = self.process.stdin, self.process.stdout
        assert stdin is not None
        assert stdout is not None
        with self._watched():
            try:
                stdin.write(line.encode(errors="replace") + b"\n")
                stdin.flush()
            except OSError:
                raise self.failed() from None
            lines = [stdout.readline().decode(errors="replace") for _ in range(answers)]
        if not lines[-1]:
            raise self.failed("".join(lines))
        return [answer.strip() for answer in lines]

    def failed(self, answer: str = "") -> RunFailed:
        """The error to raise, with the program's exit and its error message."""
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(_EXIT_TIMEOUT)
        code = self.process.poll()
        self._kill()
        self.errors.seek(0)
        lines = self.errors.read().decode(errors="replace").splitlines() + answer.splitlines()
        if self.process.stdout is not None and not self.process.stdout.closed:
            lines += self.process.stdout.read().decode(errors="replace").splitlines()
        lines = [line.strip() for line in lines if line.strip()]
        message = next((line for line in lines if "Exception" in line or "Error" in line), lines[-1] if lines else "")
        if self.timed_out:
            end = f"gave no answer within {_ANSWER_TIMEOUT:g} seconds"
        elif code is None:
            end = "gave an invalid answer"
        elif code < 0:
            end = f"was killed by signal {-code}"
        else:
            end = f"ended with code {code}"
        return _failure(self.name, f"its Java process {end}" + (f": {message}" if message else ""))

    def end(self) -> None:
        """Kill the program and its children, whatever they are doing."""
        self._kill()
        for stream in (self.process.stdin, self.process.stdout):
            with suppress(OSError):  # closing flushes, which fails after the program's exit
                if stream is not None:
                    stream.close()

    @contextmanager
    def _watched(self) -> Iterator[None]:
        def give_up() -> None:
            self.timed_out = True
            self._kill()

        watch = threading.Timer(_ANSWER_TIMEOUT, give_up)
        watch.daemon = True
        watch.start()
        try:
            yield
        finally:
            watch.cancel()

    def _kill(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def _failure(name: str, reason: str) -> RunFailed:
    """The error of a metric whose Java process failed."""
    hint = f"Does `java -version` work, and is there enough memory? {WITHOUT_JAVA}"
    return RunFailed("metric-failed", f"{name}: {reason}", hint=hint)
