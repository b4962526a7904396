"""Set up a training run from a recipe or a checkpoint, and initialise its run folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from red_cli.distributed.device import chosen_device, device_memory, forked_generators
from red_cli.distributed.process_group import Processes
from red_cli.files import write_json
from red_cli.inference.runtime import Runtime
from red_cli.methods.attach_save_load import load_trained_weights
from red_cli.plan.memory import estimated_micro_batch_size, find_micro_batch_size
from red_cli.plan.prepare import Prepared
from red_cli.plan.schedule import Schedule
from red_cli.recipe.load import LoadedRecipe
from red_cli.recipe.schema import Recipe
from red_cli.runs.folder import RunFolder
from red_cli.runs.inputs import RunInputs, require_same_inputs
from red_cli.train.checkpoint import load_checkpoint
from red_cli.train.checkpoint_folder import TrainingState, read_inputs
from red_cli.train.events import TrainingListener
from red_cli.train.generators import seed_generators
from red_cli.train.learning_rate_record import SEARCH_FILE, LearningRateSearch, has_search
from red_cli.train.learning_rate_schedules import build_scheduler
from red_cli.train.load_init import load_init
from red_cli.train.optimizer import set_units
from red_cli.train.output_spread import output_spread_of
from red_cli.train.resources import Resources
from red_cli.train.session import Optimisation, Session
from red_cli.train.stopping import Stop
from red_cli.train.trackers import Trackers


def build_session(
    loaded: LoadedRecipe,
    prepared: Prepared,
    schedule: Schedule,
    checkpoint: Path | None,
    listener: TrainingListener,
    processes: Processes,
    resources: Resources,
) -> Session:
    """Load the base and set up its training, from the beginning or from `checkpoint`. Nothing is written.

    Args:
        loaded: the recipe, with a number as learning rate.
        resources: where the base comes from.

    Raises:
        UserError: the base cannot be loaded, or the checkpoint was trained on other inputs.
    """
    recipe, folder = loaded.recipe, RunFolder(loaded.run_folder, writes=processes.main)
    settings = recipe.train
    listener.status("loading the base")
    trained = resources.attach(recipe, prepared, processes, schedule.strategy)
    counts = trained.counts
    base_record = resources.record(recipe, trained)
    inputs = RunInputs.of(prepared.encoded, prepared.label_names, base_record.digest)
    if checkpoint is not None and (recorded := read_inputs(checkpoint)) is not None:
        require_same_inputs(checkpoint, recorded, inputs)
    if checkpoint is not None:
        load_trained_weights(trained, recipe, checkpoint)
    elif settings.init_from is not None:
        load_init(trained, recipe, base_record.digest)
    optimizer, engine, processes = resources.engine(recipe, trained, processes, schedule.strategy)
    spread = None
    if recipe.relative_rates and checkpoint is None:  # else its optimiser state has the units
        listener.status("measuring the outputs")
        spread = output_spread_of(trained, prepared, settings.batch_size, processes)
        set_units(optimizer.param_groups, spread.modules)
    scheduler = build_scheduler(optimizer, settings.lr_scheduler_type, schedule.warmup_steps, schedule.total_steps)
    session = Session(
        folder=folder,
        prepared=prepared,
        schedule=schedule,
        runtime=Runtime(trained.model, prepared.base, recipe, listener, processes, engine.sharded),
        listener=listener,
        trained=trained,
        counts=counts,
        optimisation=Optimisation(optimizer, scheduler, engine),
        state=TrainingState(),
        inputs=inputs,
        base_record=base_record,
        trackers=Trackers(settings.report_to, folder, listener.note),
        stop=Stop(processes),
        output_spread=spread,
    )
    seed_generators(settings.seed, processes)
    if checkpoint is not None:
        load_checkpoint(session, checkpoint)
        if checkpoint.resolve().parent != folder.checkpoints.resolve():
            session.state.reset_best()  # the best adapter is in the other run's folder
        listener.note(f"Resuming from step {session.state.step} of {schedule.total_steps} ({checkpoint}).")
    else:
        session.state.micro_batch_size = settings.micro_batch_size or _find_micro_batch_size(session)
    return session


def init_run_folder(session: Session, search: LearningRateSearch | None) -> None:
    """Set up the start of a training run: initialise its run folder with the files it holds from then on.

    Args:
        search: the search that found the learning rate, or None if the recipe gives the rate.
    """
    recipe, folder, settings = session.recipe, session.folder, session.settings
    folder.remove_temporary_files()
    folder.trim_log(session.state.step)
    recipe = _started(recipe, folder, {"micro_batch_size": session.state.micro_batch_size})
    if search is not None and not has_search(folder.path):
        record_search(recipe, folder, replace(search, inputs=session.inputs))
    note = f"train.learning_rate: found by a search, {SEARCH_FILE}" if search else None
    task = session.prepared.task
    plan = {"total_steps": session.schedule.total_steps, "metric": task.metric, "split": task.validation_splits[0]}
    folder.write_start(recipe, note, plan)
    _write_output_spread(session)
    if settings.report_to:
        session.listener.status(f"starting {', '.join(settings.report_to)}")
    session.trackers.start(_flat_settings(session.recipe), session.state.step)


def record_search(recipe: Recipe, folder: RunFolder, search: LearningRateSearch) -> None:
    """Set up the record of a learning-rate search, so that the run never repeats it."""
    # With `auto` written first, a run that ends between these lines can be resumed.
    folder.write_start(_started(recipe, folder, {"learning_rate": "auto"}))
    search.write(folder)


def _started(recipe: Recipe, folder: RunFolder, settings: Mapping[str, Any]) -> Recipe:
    """The set-up of a training run as its folder records it: the recipe with other settings of the section train."""
    train = recipe.train.model_copy(update={**settings, "resume_from_checkpoint": False})
    output = recipe.output.model_copy(update={"dir": str(folder.path.resolve())})
    return recipe.model_copy(update={"train": train, "output": output})


def _write_output_spread(session: Session) -> None:
    """Write the output spread at the start of a training run. A run without relative rates measures it for reports."""
    if not session.recipe.method_spec.edits or session.processes.broadcast(session.folder.output_spread.is_file()):
        return
    spread = session.output_spread or output_spread_of(
        session.trained, session.prepared, session.settings.batch_size, session.processes
    )
    if session.folder.writes:
        write_json(session.folder.output_spread, asdict(spread))


def _find_micro_batch_size(session: Session) -> int:
    """Set up the micro-batch: halve it until a training step fits into memory."""
    encoded, processes, schedule = session.prepared.encoded["train"], session.processes, session.schedule
    engine, encoder = session.engine, session.prepared.encoder

    def try_step(size: int) -> None:
        batch = session.collate(session.largest(size)).to(processes.device)
        with forked_generators(processes.device):
            (encoder.loss(engine.model, batch) / batch.weight).backward()
        session.optimisation.optimizer.zero_grad()

    def estimate(size: int) -> int:
        return 0 if schedule.memory is None else schedule.memory.of_rows(size)

    engine.model.train()
    most = min(-(-session.settings.batch_size // processes.count), len(encoded))
    if schedule.strategy.deepspeed:  # a backward pass without a step would corrupt its state
        memory = device_memory(chosen_device(), processes.count)
        return processes.broadcast(estimated_micro_batch_size(most, estimate, memory))
    return min(processes.gather(find_micro_batch_size(try_step, most, estimate)))


def _flat_settings(recipe: Recipe) -> dict[str, Any]:
    """For the set-up of a training run: the numbers, switches and texts in its recipe's train section."""
    return {key: value for key, value in recipe.train.model_dump().items() if isinstance(value, int | float | str)}
