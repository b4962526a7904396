"""Train several runs of RED in one process: they share a base, and take their steps in turn.

Each run has its own adapter, optimiser, schedule, batches, random numbers and folder, and only its own are in place
while it takes its turn. So its numbers are those of the run alone.
"""

from __future__ import annotations

import gc
import traceback
from collections.abc import Callable, Generator, Mapping
from contextlib import ExitStack
from functools import partial
from typing import TypeVar

from red_cli.distributed.accelerate_settings import require_settings_for_training, take_settings_for_training
from red_cli.distributed.device import empty_cache
from red_cli.distributed.process_group import Processes, join_processes
from red_cli.edit.attach import activate
from red_cli.edit.attached_adapters import require_attachment
from red_cli.errors import Interrupted, RedError, RunFailed, UserError, first_line
from red_cli.formatting import number_of, some_of
from red_cli.recipe.load import LoadedRecipe
from red_cli.train.events import TrainingListener
from red_cli.train.generators import generator_states, restore_generators
from red_cli.train.lock import FolderLock
from red_cli.train.loop import finish, recording, steps
from red_cli.train.resources import Resources
from red_cli.train.shared_resources import SharedResources, active_name, base_settings
from red_cli.train.start import PlannedRun, StartedRun, find_rate, open_run, plan_run
from red_cli.train.stopping import Stop, StopRequested, stop_when_asked
from red_cli.train.together_listener import ListenerOfAll

_T = TypeVar("_T")
_DTYPE = "model.dtype"
_SHORT = 20  # characters of a value that a message names


def train_together(runs: Mapping[str, LoadedRecipe], listener: TrainingListener) -> dict[str, Exception]:
    """Train runs in turn on one base, or resume them; a run that fails leaves the others alone.

    Args:
        runs: by name; `compare.together.require_together` has checked them.

    Returns:
        The error of each run that failed, by its name.

    Raises:
        UserError: the data, the base or a folder cannot be used, or the runs need different bases; nothing has been
            trained.
        Interrupted: the user stopped the runs; each has a checkpoint.
    """
    if not runs:
        return {}
    recipes = [loaded.recipe for loaded in runs.values()]
    for recipe in recipes:  # all, before the first takes the settings away
        require_settings_for_training(recipe)
    for note in take_settings_for_training(recipes[0]):
        listener.note(note)
    processes = join_processes(recipes[0].launch)
    resources = SharedResources([recipe.train.seed for recipe in recipes])
    all_of_them = ListenerOfAll(listener)
    with ExitStack() as locks:
        planned = {}  # all, before a base is loaded: a plan adds the base to the memory in use
        for name, loaded in runs.items():
            lock = FolderLock(loaded.run_folder)
            locks.callback(lock.release)
            planned[name] = plan_run(loaded, all_of_them.listener_of(name), processes, lock, resources)
        _require_one_base(planned)
        stop = Stop(processes)
        planned, failed = _find_rates(planned, processes, resources, all_of_them)
        turns = {name: _Turns(each, processes, resources, stop) for name, each in planned.items()}
        for name, turn in turns.items():
            all_of_them.begin(name, turn.run.session.state.step, turn.run.session.schedule.total_steps)
        with stop_when_asked(stop):
            return {**failed, **_take_turns(turns, all_of_them)}


def _require_one_base(planned: Mapping[str, PlannedRun]) -> None:
    """Check that the runs to train together load the same base: labels in the rows are a part of its configuration.

    Raises:
        UserError: two of them differ, such as a run that was started with another `model.dtype` than a new one takes.
    """
    settings = {name: base_settings(run.loaded.recipe, run.prepared) for name, run in planned.items()}
    (first, expected), *others = settings.items()
    for name, found in others:
        differing = sorted(key for key in found.keys() | expected.keys() if found.get(key) != expected.get(key))
        if differing:
            listed = some_of([_difference(key, expected.get(key), found.get(key)) for key in differing])
            hint = "Train them without --together."
            started = [each for each in (first, name) if planned[each].checkpoint is not None]
            if differing == [_DTYPE] and len(started) == 1:
                dtype = planned[started[0]].loaded.recipe.model.dtype
                hint = f"{_DTYPE}={dtype} trains both as {started[0]} was started. Or train them without --together."
            message = f"--together: {first} and {name} need different bases: {listed}"
            raise UserError("invalid-option", message, hint=hint)


def _difference(name: str, *values: str | None) -> str:
    """A setting in which the bases of two runs differ, with its values if they are short."""
    shown = [str(value).strip('"') for value in values]
    return f"{name} {' and '.join(shown)}" if max(map(len, shown)) <= _SHORT else name


def _find_rates(
    planned: Mapping[str, PlannedRun], processes: Processes, resources: SharedResources, listener: ListenerOfAll
) -> tuple[dict[str, PlannedRun], dict[str, Exception]]:
    """Search the learning rates that are not known; the runs that have one, and the errors of the others."""
    found, failed = dict[str, PlannedRun](), dict[str, Exception]()
    for name, run in planned.items():
        try:
            found[name] = find_rate(run, processes, resources)
        except UserError:  # of the base or the data, which the other runs use too
            raise
        except Exception as error:
            failed[name] = _reported(error, name, listener)
            resources.forget_base()  # the search left an adapter on it
    return found, failed


class _Turns:
    """A run that takes turns on the shared base: what is in place while it does is its own.

    Args:
        planned: the run; it is opened here.
        stop: of all runs.
    """

    def __init__(self, planned: PlannedRun, processes: Processes, resources: Resources, stop: Stop) -> None:
        self.run = open_run(planned, processes, resources)
        self.run.session.stop = stop
        self.resources = resources
        self.model, self.device = self.run.session.model, self.run.session.processes.device
        self.adapter = active_name(self.model)
        self.generators = generator_states(self.device)
        self.left: Generator[None, None, None] | None = None

    def next(self) -> bool:
        """Take one step, or stop with a checkpoint if that is asked for; returns whether there are more.

        Raises:
            Interrupted: the run has stopped.
            Exception: the run has failed.
        """
        if self.left is None:  # even if it is to stop: it does so after its first step
            self.left = _to_the_end(self.run)
            step = partial(next, self.left)
        else:
            step = (
                partial(self.left.throw, StopRequested())
                if self.run.session.stop.requested
                else partial(next, self.left)
            )
        try:
            self._in_place(step)
        except StopIteration:
            return False
        return True

    def end(self) -> None:
        """Give the memory of a run that has ended to the others: adapter, gradients, optimiser."""
        self._in_place(partial(self.resources.release, self.run.session.trained))
        del self.run, self.left
        gc.collect()
        empty_cache(self.device)

    def close(self) -> None:
        """End a run that was left in the middle."""
        if self.left is not None:
            self.left.close()

    def _in_place(self, work: Callable[[], _T]) -> _T:
        """Do a part of the run's work with its adapter and its random generators."""
        if require_attachment(self.model).selection.active != self.adapter:
            activate(self.model, self.adapter)
        restore_generators(self.generators, self.device)
        try:
            return work()
        finally:
            self.generators = generator_states(self.device)


def _to_the_end(run: StartedRun) -> Generator[None, None, None]:
    """All that a run has left to do, step by step."""
    with recording(run.session):
        yield from steps(run.session)
        finish(run)


def _take_turns(turns: Mapping[str, _Turns], listener: ListenerOfAll) -> dict[str, Exception]:
    """Take one step of each run after another until all have ended; returns the errors of those that failed."""
    waiting, failed, stopped = dict(turns), dict[str, Exception](), list[str]()
    try:
        while waiting:
            for name, turn in list(waiting.items()):
                try:
                    if turn.next():
                        continue
                except Interrupted:
                    stopped.append(name)
                except Exception as error:  # whatever it is, the other runs continue
                    failed[name] = _reported(error, name, listener)
                del waiting[name]
                turn.end()
                listener.ended(name)
    finally:
        for turn in waiting.values():
            turn.close()
    if stopped:
        raise Interrupted(
            "interrupted",
            f"{number_of(len(stopped), 'run')} stopped, each with a checkpoint: {', '.join(stopped)}",
            hint="Rerun the same command to resume.",
        )
    return failed


def _reported(error: Exception, name: str, listener: ListenerOfAll) -> Exception:
    """The error of a run, without what its frames hold: it is kept until all runs have ended."""
    listener.failed(name, error.message if isinstance(error, RedError) else first_line(error))
    chain: list[BaseException] = [error]
    for each in chain:
        traceback.clear_frames(each.__traceback__)
        linked = (each.__cause__, each.__context__)
        chain += [other for other in linked if other is not None and other not in chain]
    return error


def raise_failures(failed: Mapping[str, Exception]) -> None:
    """Raise the error of the run that failed together with others, or one error for several.

    Raises:
        Exception: that of the only run that failed.
        RunFailed: several failed.
    """
    if len(failed) == 1:
        raise next(iter(failed.values()))
    if failed:
        raise RunFailed("run-failed", f"failed: {', '.join(failed)}", hint="The same command tries them again.")
