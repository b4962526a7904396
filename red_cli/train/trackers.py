"""Experiment trackers, run by Accelerate, whose files lie in the run folder."""

from __future__ import annotations

import contextlib
import io
import os
import secrets
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from red_cli.errors import UserError, first_line
from red_cli.files import read_json, write_json
from red_cli.runs.folder import RunFolder

_USUAL_PROJECT = "red"
_RUNS_FILE = "runs.json"  # tracker -> the id of its run, which a resumed run continues
# Variables of the trackers that this process set; those that the user set stay.
_placed: dict[str, str] = {}


class Trackers:
    """The trackers of a run. A failure after the start does not end the run: it is noted, and logging stops.

    Their files lie in `trackers/` of the run folder, unless the tracker's own variables say otherwise (WANDB_DIR,
    MLFLOW_TRACKING_URI, TRACKIO_DIR).
    """

    def __init__(
        self, accelerator: Accelerator, names: Sequence[str], folder: RunFolder, note: Callable[[str], None]
    ) -> None:
        self._accelerator = accelerator
        self._names = names
        self._folder = folder
        self._note = note
        self._works = bool(names)

    def start(self, settings: dict[str, Any], step: int) -> None:
        """Start tracked runs with these settings, or continue those of a run that resumes after `step`.

        Raises:
            UserError: a tracker cannot be started, for example because the user is not logged in.
        """
        if not self._works:
            return
        file = self._folder.trackers / _RUNS_FILE
        known: dict[str, str] = read_json(file) if step and file.is_file() else {}
        runs = {**{"wandb": secrets.token_hex(4)}, **known}
        try:
            if self._folder.writes:
                self._folder.trackers.mkdir(exist_ok=True)
                _place(self._names, self._folder.trackers)
            with _quiet(self._names):
                self._accelerator.init_trackers(
                    os.environ.get("WANDB_PROJECT") or _USUAL_PROJECT,
                    config=None if known else settings,  # some refuse to change what a run has
                    init_kwargs={name: self._options(name, runs, name in known, step) for name in self._names},
                )
            if self._folder.writes:
                if "mlflow" in self._names:
                    runs["mlflow"] = self._accelerator.get_tracker("mlflow", unwrap=True).info.run_id
                write_json(file, {name: runs.get(name, self._folder.path.name) for name in self._names})
        except Exception as error:  # each tracker has exceptions of its own
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
        self._attempt(lambda: self._accelerator.log(values, step=step))

    def end(self) -> None:
        """Flush and close the trackers; they take nothing more."""
        self._attempt(self._end)
        self._works = False

    def _end(self) -> None:
        self._accelerator.end_training()
        trackio: Any = sys.modules.get("trackio") if "trackio" in self._names and self._folder.writes else None
        if trackio is not None:
            trackio.finish()  # else it ends its run again when the process ends, and says so on standard output

    def _options(self, name: str, runs: dict[str, str], continued: bool, step: int) -> dict[str, Any]:
        """The options of a tracker beyond its project: its place, its run, and what it forgets of later steps."""
        folder = self._folder
        if name == "tensorboard":
            return {"purge_step": step + 1} if step else {}
        if name == "wandb":
            place = {} if "WANDB_DIR" in os.environ else {"dir": str(folder.trackers)}
            return {"name": folder.path.name, "id": runs[name], **place, **({"resume": "allow"} if continued else {})}
        if name == "mlflow":
            artifacts = (folder.trackers / "mlflow-artifacts").resolve().as_uri()
            place = {"logging_dir": artifacts} if "MLFLOW_TRACKING_URI" in _placed else {}
            return {"run_name": folder.path.name, **place, **({"run_id": runs[name]} if continued else {})}
        if name == "trackio":
            return {"name": folder.path.name, "resume": "allow" if continued else "never"}
        return {}

    def _attempt(self, send: Callable[[], None]) -> None:
        if not self._works:
            return
        try:
            with _quiet(self._names):
                send()
        except Exception as error:  # each tracker has exceptions of its own
            self._works = False
            self._note(f"{', '.join(self._names)} failed and is disabled for the rest of the run: {first_line(error)}")


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
    if "TRACKIO_DIR" in _placed:
        for name, module in list(sys.modules.items()):  # it reads the variable only once, for an earlier run
            if name.partition(".")[0] == "trackio" and hasattr(module, "TRACKIO_DIR"):
                vars(module)["TRACKIO_DIR"] = Path(_placed["TRACKIO_DIR"])


@contextlib.contextmanager
def _quiet(names: Sequence[str]) -> Iterator[None]:
    """Keep what trackers print off standard output, which a program may read. wandb prints none, but records it."""
    if "wandb" in names or os.environ.get("RED_DEBUG"):
        yield
        return
    with contextlib.redirect_stdout(io.StringIO()):
        yield
