"""Start a training run: lock its folder, read its rows, plan it, search its learning rate, load its base."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from red_cli.base_model.base_dtype import fetch_for_dtype
from red_cli.base_model.peak_memory import reset_peak
from red_cli.base_model.positions import longest_sequence
from red_cli.distributed.process_group import Processes
from red_cli.plan.host_memory import require_host_memory
from red_cli.plan.plan import make_plan
from red_cli.plan.prepare import Prepared
from red_cli.plan.schedule import Schedule
from red_cli.recipe.chosen_metrics import with_metric
from red_cli.recipe.load import LoadedRecipe
from red_cli.recipe.schema import with_dtype
from red_cli.recipe.shipped_rates import unsearched_rate
from red_cli.runs.folder import RunFolder
from red_cli.runs.inputs import RunInputs, require_same_inputs
from red_cli.train.checkpoint_folder import read_inputs
from red_cli.train.events import TrainingListener
from red_cli.train.init_from import init_note, require_init_from
from red_cli.train.learning_rate_record import SEARCH_FILE, LearningRateSearch, find_earlier_search, with_rate
from red_cli.train.learning_rate_search import search_learning_rate
from red_cli.train.lock import FolderLock
from red_cli.train.resources import Resources
from red_cli.train.resume import find_resume_checkpoint, with_recorded_choices
from red_cli.train.samples import SamplePrompts, choose_samples
from red_cli.train.session import Session
from red_cli.train.setup import build_session, init_run_folder, record_search


@dataclass(frozen=True)
class PlannedRun:
    """A run that can start: its rows and its plan.

    Attributes:
        loaded: the recipe; its learning rate is `auto` until `find_rate`.
        checkpoint: what it resumes from; None from the beginning.
        search: what found the learning rate; None if the recipe gives it, or before `find_rate`.
        unsearched: why the learning rate may not fit the base; None if it does.
    """

    loaded: LoadedRecipe
    prepared: Prepared
    schedule: Schedule
    checkpoint: Path | None
    samples: SamplePrompts | None
    search: LearningRateSearch | None
    unsearched: str | None
    lock: FolderLock
    listener: TrainingListener


@dataclass(frozen=True)
class StartedRun:
    """A run whose folder is initialised and whose steps can begin; the attributes are those of PlannedRun."""

    session: Session
    search: LearningRateSearch | None
    unsearched: str | None


def plan_run(
    loaded: LoadedRecipe, listener: TrainingListener, processes: Processes, lock: FolderLock, resources: Resources
) -> PlannedRun:
    """Start a run as far as it goes without its base: lock the folder, read the rows, plan.

    Raises:
        UserError: the folder, the data or the checkpoint cannot be used.
    """
    checkpoint = processes.broadcast(find_resume_checkpoint(loaded, lock, listener) if processes.main else None)
    if checkpoint is None:
        require_init_from(loaded)
    reset_peak()
    listener.status("reading the data")
    loaded = with_recorded_choices(loaded, checkpoint)
    prepared = resources.prepare(loaded.recipe)
    if prepared.default_metric is not None:
        loaded = replace(loaded, recipe=with_metric(loaded.recipe, prepared.default_metric))
    context = longest_sequence(prepared.base.config, prepared.base.tokenizer)
    wanted = loaded.recipe.eval.samples
    samples = choose_samples(prepared, wanted, context)
    if samples is not None and len(samples.rows) < wanted:
        listener.note(f"eval.samples is {wanted}, but only {len(samples.rows)} rows can be answered.")
    rows = RunInputs.of(prepared.encoded, prepared.label_names)
    if checkpoint is not None:  # `build_session` compares the base
        if (recorded := read_inputs(checkpoint)) is None:
            listener.note(f"{checkpoint} has no record of its rows and base; they are not checked.")
        else:
            require_same_inputs(checkpoint, recorded, rows)
    fetch_for_dtype(loaded.recipe, listener.status)
    plan = make_plan(loaded, prepared, processes)
    loaded = replace(loaded, recipe=with_dtype(loaded.recipe, plan.summary.dtype.name))
    unsearched = unsearched_rate(loaded)
    listener.planned(plan.summary, str(loaded.run_folder))
    require_host_memory(plan.summary.host, processes)
    search = None
    if loaded.recipe.train.learning_rate == "auto":
        search = find_earlier_search(loaded, checkpoint)
        if search is not None and search.inputs is not None:
            require_same_inputs(loaded.run_folder / SEARCH_FILE, search.inputs, rows)
    planned = PlannedRun(loaded, prepared, plan.schedule, checkpoint, samples, None, unsearched, lock, listener)
    return planned if search is None else _with_search(planned, search)


def find_rate(planned: PlannedRun, processes: Processes, resources: Resources) -> PlannedRun:
    """Start the learning-rate search of a planned run if its rate is still `auto`, and record what it finds.

    Raises:
        UserError: the base cannot be used.
        RunFailed: not even one row fits into memory.
    """
    loaded = planned.loaded
    if loaded.recipe.train.learning_rate != "auto":
        return planned
    search = search_learning_rate(loaded, planned.prepared, planned.schedule, planned.listener, processes, resources)
    if search.inputs is not None:  # now, and not with the start of the run, which may come much later
        record_search(loaded.recipe, RunFolder(loaded.run_folder, writes=processes.main), search)
    return _with_search(planned, search)


def _with_search(planned: PlannedRun, search: LearningRateSearch) -> PlannedRun:
    """The run to start, with the learning rate of a search."""
    loaded = with_rate(planned.loaded, search.rate)
    return replace(planned, loaded=loaded, search=search, unsearched=search.unsearched)


def open_run(planned: PlannedRun, processes: Processes, resources: Resources) -> StartedRun:
    """Start a planned run that has its learning rate: load its base, restore its checkpoint, and initialise its folder.

    Raises:
        UserError: the base cannot be used, or is another one than before.
    """
    loaded, search, checkpoint = planned.loaded, planned.search, planned.checkpoint
    session = build_session(
        loaded, planned.prepared, planned.schedule, checkpoint, planned.listener, processes, resources
    )
    session.lock, session.samples = planned.lock, planned.samples
    if search is not None and search.inputs is not None:
        require_same_inputs(loaded.run_folder / SEARCH_FILE, search.inputs, session.inputs)
    if checkpoint is None and (note := init_note(session.recipe)) is not None:
        planned.listener.note(note)
    init_run_folder(session, search)
    return StartedRun(session, search, planned.unsearched)
