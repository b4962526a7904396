"""Java programs that are run over pipes: a program cannot hang its caller, outlive it, or fail without a message."""

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
_PATIENCE = 300.0  # seconds for one answer; METEOR's first, which waits for its tables, takes about 5
_LAST_WORDS = 5.0  # seconds in which a program that stopped answering may end by itself
# The same figures whatever the user's language: how bytes become letters, how a fraction is written, what lower case is
_LANGUAGE = ("-Dfile.encoding=UTF-8", "-Dstdout.encoding=UTF-8", "-Duser.language=en", "-Duser.country=US")

_SHORT = ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC")  # over in seconds: thorough compilation would not pay


def find_java() -> str | None:
    """The `java` of JAVA_HOME or of the path; None where there is none."""
    home = os.environ.get("JAVA_HOME")
    of_home = shutil.which("java", path=str(Path(home) / "bin")) if home else None
    found = of_home or shutil.which("java")
    return str(Path(found).absolute()) if found else None


@contextmanager
def java_process(name: str, arguments: Sequence[str]) -> Iterator[JavaProcess]:
    """Run Java with `arguments` for as long as the block lasts; `name` says in messages what is computed.

    Raises:
        RunFailed: there is no Java, or it cannot be started; in the block, where it dies or gives no answer in time.
    """
    java = find_java()
    if java is None:
        raise RunFailed(
            "missing-dependency", f"{name} needs Java, which is missing", hint=f"Install it: {INSTALL_JAVA}"
        )
    with tempfile.TemporaryFile() as complaints:  # a pipe would fill up while nobody reads it
        try:
            process = subprocess.Popen(  # noqa: S603 - the arguments are ours, texts go through the pipe
                [java, *_LANGUAGE, *_SHORT, *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=complaints,
                env={**os.environ, "LC_ALL": "C.UTF-8"},
                cwd=tempfile.gettempdir(),  # a virtual machine that crashes leaves a report where it runs
                start_new_session=True,  # so that what a wrapper script starts can be ended with it
            )
        except OSError as error:
            raise _failure(name, f"{java} cannot be started: {error.strerror}") from None
        running = JavaProcess(name, process, complaints)
        try:
            yield running
        finally:
            running.end()


@dataclass
class JavaProcess:
    """A running Java program. Its methods raise RunFailed where it dies or gives no answer in time."""

    name: str
    process: subprocess.Popen[bytes]
    complaints: IO[bytes]
    overdue: bool = False

    def run(self, text: str) -> str:
        """Send `text`, and return all that the program has to say until it ends."""
        with self._watched():
            answer, _ = self.process.communicate(text.encode(errors="replace"))
        if self.process.returncode != 0:
            raise self.failed(answer.decode(errors="replace"))
        return answer.decode()

    def ask(self, line: str, answers: int = 1) -> list[str]:
        """Send a line, and return the next `answers` lines that come back."""
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
        """The error to raise: how the program ended, and what it said last."""
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(_LAST_WORDS)
        code = self.process.poll()
        self._kill()
        self.complaints.seek(0)
        said = self.complaints.read().decode(errors="replace").splitlines() + answer.splitlines()
        if self.process.stdout is not None and not self.process.stdout.closed:
            said += self.process.stdout.read().decode(errors="replace").splitlines()
        said = [line.strip() for line in said if line.strip()]
        told = next((line for line in said if "Exception" in line or "Error" in line), said[-1] if said else "")
        if self.overdue:
            end = f"gave no answer within {_PATIENCE:g} seconds"
        elif code is None:
            end = "gave an answer that makes no sense"
        elif code < 0:
            end = f"was killed by signal {-code}"
        else:
            end = f"ended with code {code}"
        return _failure(self.name, f"its Java process {end}" + (f": {told}" if told else ""))

    def end(self) -> None:
        """End it and what it started, whatever it is doing."""
        self._kill()
        for stream in (self.process.stdin, self.process.stdout):
            with suppress(OSError):  # closing flushes what the program no longer takes
                if stream is not None:
                    stream.close()

    @contextmanager
    def _watched(self) -> Iterator[None]:
        def give_up() -> None:
            self.overdue = True
            self._kill()

        watch = threading.Timer(_PATIENCE, give_up)
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
    hint = f"Does `java -version` work, and is there enough memory? {WITHOUT_JAVA}"
    return RunFailed("metric-failed", f"{name}: {reason}", hint=hint)
