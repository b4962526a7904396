"""The layout of a run folder."""

from __future__ import annotations

import contextlib
import csv
import importlib.metadata
import json
import platform
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import red_cli
from red_cli.errors import UserError
from red_cli.escape import file_name
from red_cli.files import require_inside, write_json, write_text
from red_cli.recipe.keys_by_role import role_of
from red_cli.recipe.overrides import named_keys
from red_cli.recipe.roles import Role
from red_cli.recipe.schema import Recipe, resolved
from red_cli.recipe.yaml_file import dump
from red_cli.runs.consent import is_consent
from red_cli.runs.folder_kind import ENVIRONMENT_FILE, METRICS_FILE, RECIPE_FILE
from red_cli.runs.metrics_file import is_finished, merged_metrics, read_metrics_file

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from red_cli.tasks.base import Prediction

_WRITTEN_TO = ("predictions", "evaluations", "suites", "alpaca-eval", "mt-bench", "mt-bench/model_answer")
_LIBRARIES = ("torch", "transformers", "accelerate", "datasets", "safetensors", "numpy")


@dataclass(frozen=True)
class RunFolder:
    """The files of a run folder. Without `writes`, as on ranks other than 0, nothing is written."""

    path: Path
    writes: bool = True

    @property
    def recipe(self) -> Path:
        return self.path / RECIPE_FILE

    @property
    def adapter(self) -> Path:
        return self.path / "adapter"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def log(self) -> Path:
        return self.path / "log.jsonl"

    @property
    def metrics(self) -> Path:
        return self.path / METRICS_FILE

    @property
    def output_spread(self) -> Path:
        return self.path / "output_spread.json"

    @property
    def trackers(self) -> Path:
        """The folder of the files of experiment trackers."""
        return self.path / "trackers"

    @property
    def card(self) -> Path:
        return self.path / "README.md"

    def predictions(self, split: str) -> Path:
        return self.path / "predictions" / file_name(f"{split}.jsonl")

    @property
    def errors(self) -> Path:
        """The file of wrong rows of all scored splits."""
        return self.path / "predictions" / "errors.csv"

    def count_errors(self, split: str) -> int:
        """The number of wrong rows of a split in the errors file; 0 if the file is missing or damaged."""
        from red_cli.tasks.data.csv_file import LONGEST_CELL

        csv.field_size_limit(LONGEST_CELL)
        try:
            with self.errors.open(encoding="utf-8", newline="") as file:
                return sum(line.get("split") == split for line in csv.DictReader(file))
        except (OSError, ValueError, csv.Error):
            return 0

    def texts(self, split: str) -> tuple[Path, Path]:
        """The files of generated texts and of references, in the format of E2E NLG's official scripts."""
        place = self.path / "predictions"
        return place / file_name(f"{split}.txt"), place / file_name(f"{split}.references.txt")

    def partial(self, split: str) -> Path:
        """The file of finished texts of an evaluation in progress."""
        return self.path / "predictions" / file_name(f"{split}.partial.jsonl")

    @property
    def finished(self) -> bool:
        return is_finished(self.read_metrics())

    def write_start(self, recipe: Recipe, note: str | None = None, plan: Mapping[str, Any] | None = None) -> None:
        """Write the resolved recipe, with a comment `note` on top, and the versions of the libraries.

        Args:
            plan: facts of the plan that an unfinished run is judged by; see `red_cli.train.run_state`.
        """
        if not self.writes:
            return
        command = f"red train {shlex.quote(str(self.recipe))} output.dir=<another folder>"
        header = f"# Resolved by red. To repeat the run: {command}\n" + (f"# {note}\n" if note else "")
        write_text(self.recipe, header + dump(resolved(recipe)))
        write_json(self.path / ENVIRONMENT_FILE, environment() | ({} if plan is None else {"plan": dict(plan)}))

    def write_predictions(
        self, split: str, predictions: list[Prediction], source_indices: NDArray[np.int64] | None = None
    ) -> None:
        """Write one line per prediction.

        Args:
            source_indices: the rows' indices in their source, shape (rows,); None if all rows are used.
        """
        if not self.writes:
            return
        indices = range(len(predictions)) if source_indices is None else source_indices.tolist()
        answers = zip(indices, predictions, strict=True)
        lines = [json.dumps(answer.to_json(index), ensure_ascii=False) for index, answer in answers]
        write_text(self.predictions(split), "\n".join(lines) + "\n")

    def read_predictions(self, split: str) -> list[Prediction]:
        """Read the predictions of a split; empty if the file does not exist or is damaged."""
        from red_cli.tasks.base import Prediction

        known = {field.name for field in fields(Prediction)}
        try:
            lines = self.predictions(split).read_text(encoding="utf-8").split("\n")[:-1]
            answers = [json.loads(line) for line in lines]
            return [Prediction(**{name: answer.get(name) for name in known}) for answer in answers]
        except (OSError, ValueError, AttributeError):
            return []

    def read_metrics(self) -> dict[str, Any]:
        """Read metrics.json; empty if the file does not exist.

        Raises:
            UserError: the file is damaged.
        """
        return read_metrics_file(self.metrics) if self.metrics.is_file() else {}

    def read_results(self) -> dict[str, Any]:
        """Read metrics.json of a finished run.

        Raises:
            UserError: the file is damaged, deleted since the run ended, or of version 0.1.
        """
        metrics = self.read_metrics()
        if not is_finished(metrics):
            raise UserError(
                "folder-vanished",
                f"{self.path} holds no finished run any more; it was deleted while other runs were training",
                hint="Rerun the same command to train it again; the other runs are kept.",
            )
        if metrics.get("learning_rate") is None:
            raise UserError(
                "version-too-old",
                f"{self.metrics} is of version 0.1, which did not record the learning rate",
                hint="Train the run again.",
            )
        return metrics

    def write_metrics(self, changes: dict[str, Any]) -> None:
        """Merge `changes` into metrics.json, split by split."""
        if self.writes:
            write_json(self.metrics, merged_metrics(self.read_metrics(), changes))

    def require_own_folders(self) -> None:
        """Check that an evaluation writes only inside this folder, which another person may have made.

        Raises:
            UserError: a folder for results is a link to outside the run folder.
        """
        for name in _WRITTEN_TO:
            require_inside(self.path, self.path / name)

    def remove_temporary_files(self) -> None:
        """Remove the partly written files of a killed run. No other process may be writing."""
        if self.writes:
            for folder in (self.path, self.adapter, self.path / "predictions"):
                for leftover in folder.glob(".*.tmp"):
                    leftover.unlink(missing_ok=True)

    def trim_log(self, step: int) -> None:
        """Delete log lines after `step`; a resumed run writes them again."""
        if self.writes and self.log.is_file():
            kept = []
            for line in self.log.read_text(encoding="utf-8", errors="replace").splitlines():
                with contextlib.suppress(ValueError, TypeError, KeyError):
                    if json.loads(line)["step"] <= step:
                        kept.append(line + "\n")
            write_text(self.log, "".join(kept))

    def append_log(self, values: dict[str, Any]) -> None:
        """Append a line to the log, with the time in UTC."""
        if not self.writes:
            return
        now = datetime.now(timezone.utc).isoformat(timespec="seconds")
        with self.log.open("a", encoding="utf-8") as file:
            file.write(json.dumps({**values, "time": now}) + "\n")


def environment() -> dict[str, Any]:
    """The versions of Python and libraries, the platform and the command line."""
    versions = {"red-finetune": red_cli.__version__}
    for name in _LIBRARIES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "command": sys.argv,
        "libraries": versions,
    }


def evaluation_folder(folder: Path, overrides: Sequence[str]) -> Path:
    """The folder for the results of an evaluation: that of the model, or a numbered one in it with overrides.

    Consent to run code and processes change no result.
    """
    if all(is_consent(override) or _sets_machine_alone(override) for override in overrides):
        return folder
    RunFolder(folder).require_own_folders()
    number = 1
    while (folder / "evaluations" / str(number)).exists():
        number += 1
    return folder / "evaluations" / str(number)


def _sets_machine_alone(override: str) -> bool:
    """Whether an override of an opened recipe sets only processes and devices."""
    keys = named_keys([override])
    return bool(keys) and all(role_of(named.key) is Role.MACHINE for named in keys)
