"""Experiment trackers, run by Accelerate, whose files lie in the run folder."""

from __future__ import annotations

import contextlib
import io
import os
import secrets
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from accelerate.tracking import LOGGER_TYPE_TO_CLASS

from red_cli.errors import UserError, first_line
from red_cli.files import read_json, write_json
from red_cli.runs.folder import RunFolder

_USUAL_PROJECT = "red"
_RUNS_FILE = "runs.json"  # tracker -> the id of its run, which a resumed run continues
# Variables of the trackers that this process set; those that the user set stay.
_placed: dict[str, str] = {}


class Trackers:
    """The trackers of a run. A failure after the start does not end the run: it is noted, and logging to
    that tracker stops.

    Their files lie in `trackers/` of the run folder, unless the tracker's own variables say otherwise (WANDB_DIR,
    MLFLOW_TRACKING_URI, TRACKIO_DIR).
    """

    def __init__(self, names: Sequence[str], folder: RunFolder, note: Callable[[str], None]) -> None:
        self._names = names
        self._folder = folder
        self._note = note
        self._started: dict[str, Any] = {}  # Accelerate's trackers, on the rank that writes
        self._failed: set[str] = set()

    def start(self, settings: dict[str, Any], step: int) -> None:
        """Start tracked runs with these settings, or continue those of a run that resumes after `step`.

        Raises:
            UserError: a tracker cannot be started, for example because the user is not logged in.
        """
        if not self._names or not self._folder.writes:
            return
        file = self._folder.trackers / _RUNS_FILE
        known: dict[str, str] = read_json(file) if step and file.is_file() else {}
        try:
            self._folder.trackers.mkdir(exist_ok=True)
            _place(self._names, self._folder.trackers)
            runs = {name: self._start(name, known.get(name), settings, step) for name in self._names}
            write_json(file, {**known, **runs})
        except Exception as error:  # each tracker has exceptions of its own
            self.end()
            raise UserError(
                "unavailable",
                f"train.report_to: {', '.join(self._names)} cannot be started: {first_line(error)}",
                hint="Set it up, or disable it: train.report_to=[]",
            ) from error

    def __enter__(self) -> Trackers:
        return self

    def __exit__(self, *error: object) -> None:
        self.end()  # else a further run of this process could not start its own

    def log(self, values: dict[str, float], step: int) -> None:
        """Send the values of a step."""
        for name, tracker in self._started.items():
            if name not in self._failed:
                self._attempt(name, partial(tracker.log, values, step=step))

    def end(self) -> None:
        """Flush and close the trackers, those that failed too; they take nothing more."""
        for name, tracker in self._started.items():
            self._attempt(name, tracker.finish)
            if name == "trackio" and (trackio := sys.modules.get("trackio")) is not None:
                # else it ends its run again when the process ends, and says so on standard output
                self._attempt(name, vars(trackio)["finish"])
        self._started = {}

    def _start(self, name: str, known: str | None, settings: dict[str, Any], step: int) -> str:
        """Start a tracker, or continue its known run. Returns what it calls its run."""
        kind, project = LOGGER_TYPE_TO_CLASS[name], os.environ.get("WANDB_PROJECT") or _USUAL_PROJECT
        run = known or (secrets.token_hex(4) if name == "wandb" else self._folder.path.name)
        place = [str(self._folder.trackers)] if kind.requires_logging_directory else []
        with _quiet(name):
            tracker = kind(project, *place, **self._options(name, run, known is not None, step))
            tracker.start()
            self._started[name] = tracker
            if known is None:  # some refuse to change what a run has
                tracker.store_init_configuration(settings)
        if name == "mlflow":
            return str(tracker.tracker.info.run_id)
        return str(tracker.tracker.name) if name == "trackio" else run  # it may have renamed the run

    def _options(self, name: str, run: str, continued: bool, step: int) -> dict[str, Any]:
        """The options of a tracker beyond its project: its place, its run, and what it forgets of later steps."""
        folder = self._folder
        if name == "tensorboard":  # from step 0 too: an earlier run may have ended before its first checkpoint
            return {"purge_step": step + 1}
        if name == "wandb":
            place = {} if "WANDB_DIR" in os.environ else {"dir": str(folder.trackers)}
            return {"name": folder.path.name, "id": run, **place, **({"resume": "allow"} if continued else {})}
        if name == "mlflow":
            artifacts = (folder.trackers / "mlflow-artifacts").resolve().as_uri()
            uri = os.environ.get("MLFLOW_TRACKING_URI")
            place = {"logging_dir": artifacts} if uri is not None and uri == _placed.get("MLFLOW_TRACKING_URI") else {}
            return {"run_name": folder.path.name, **place, **({"run_id": run} if continued else {})}
        if name == "trackio":
            return {"name": run, "resume": "allow" if continued else "never"}
        return {}

    def _attempt(self, name: str, send: Callable[[], None]) -> None:
        try:
            with _quiet(name):
                send()
        except Exception as error:  # each tracker has exceptions of its own
            if name not in self._failed:
                self._failed.add(name)
                self._note(f"{name} failed and is disabled for the rest of the run: {first_line(error)}")


def _place(names: Sequence[str], folder: Path) -> None:
    """Point the trackers that are placed by variables to a folder, unless the user has set these."""
    folder = folder.resolve()
    variables = {
        "wandb": {
            "WANDB_CACHE_DIR": str(folder / "wandb" / "cache"),
            "WANDB_DATA_DIR": str(folder / "wandb" / "data"),
            "WANDB_QUIET": "true",  # else it shows all values again
        },
        "mlflow": {
            "MLFLOW_TRACKING_URI": f"sqlite:///{(folder / 'mlflow.db').as_posix()}",
            "MLFLOW_LOGGING_LEVEL": "WARNING",  # else it reports each table that it creates
            "MLFLOW_DISABLE_TELEMETRY": "true",  # which leaves a file in the home folder
        },
        "trackio": {"TRACKIO_DIR": str(folder / "trackio")},
    }
    for name in names:
        for variable, value in variables.get(name, {}).items():
            if os.environ.get(variable) == _placed.get(variable):
                os.environ[variable] = _placed[variable] = value
    if "TRACKIO_DIR" in _placed and (place := os.environ.get("TRACKIO_DIR")):
        for name, module in list(sys.modules.items()):  # it reads the variable only once, for an earlier run
            if name.partition(".")[0] == "trackio" and hasattr(module, "TRACKIO_DIR"):
                vars(module)["TRACKIO_DIR"] = Path(place)


@contextlib.contextmanager
def _quiet(name: str) -> Iterator[None]:
    """Keep what a tracker prints off standard output, which a program may read. wandb prints none, but records it."""
    if name == "wandb" or os.environ.get("RED_DEBUG"):
        yield
        return
    with contextlib.redirect_stdout(io.StringIO()):
        yield
