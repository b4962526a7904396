"""The runs of a comparison, trained together in this process."""

from __future__ import annotations

import gc
from collections.abc import Sequence

from red_cli.compare.comparison import Comparison, Run
from red_cli.compare.seeds import resuming
from red_cli.compare.together import require_together
from red_cli.errors import UserError
from red_cli.recipe.metrics import UNTUNED
from red_cli.runs.events import Listener
from red_cli.train.events import TrainingListener
from red_cli.train.resume import is_finished


class TrainsTogether:
    """How `red compare --together` trains: all unfinished runs at the first call; see `comparison.Trainer`.

    Raises:
        UserError: the runs cannot train together.
    """

    def __init__(self, comparison: Comparison, listener: TrainingListener) -> None:
        self._runs = [run for run in comparison.runs if run.method != UNTUNED]
        if self._runs:
            require_together({_name(run): run.loaded.recipe for run in self._runs})
        self._listener = listener
        self._failed: dict[str, Exception] | None = None

    def __call__(self, run: Run, what: str, listener: Listener) -> bool:
        """Whether a run succeeded.

        Raises:
            UserError: of a run that cannot be used; it ends the comparison.
            Interrupted: the user stopped the runs.
        """
        if self._failed is None:
            self._failed = self._train([each for each in self._runs if not is_finished(each.loaded)])
        error = self._failed.get(_name(run))
        if isinstance(error, UserError):
            raise UserError("run-failed", f"{_name(run)}: {error.message}", hint=error.hint)
        return error is None

    def _train(self, runs: Sequence[Run]) -> dict[str, Exception]:
        from red_cli.distributed.device import chosen_device, empty_cache
        from red_cli.train.together import train_together

        self._listener.note("All runs train in this process: the memory of each is that of all.")
        failed = train_together({_name(run): resuming(run.loaded) for run in runs}, self._listener)
        gc.collect()  # the finished runs are scored in this process
        empty_cache(chosen_device())
        return failed


def _name(run: Run) -> str:
    """The name of a run that trains together with others."""
    return f"{run.name}, seed {run.seed}"
