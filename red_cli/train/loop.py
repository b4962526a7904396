"""The training loop, in reading order: set up, step, evaluate, keep the best, finish."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

from red_cli.base_model.peak_memory import peak_bytes
from red_cli.distributed.accelerate_settings import take_settings_for_training
from red_cli.distributed.process_group import join_processes
from red_cli.errors import Interrupted
from red_cli.export.card import run_card
from red_cli.export.next_steps import run_use
from red_cli.files import write_text
from red_cli.formatting import rounded_rate
from red_cli.inference.predict import predict
from red_cli.inference.shared_rows import NEVER_STOP, StopSignal
from red_cli.methods.attach_save_load import load_trained_weights, save_trained
from red_cli.recipe.load import LoadedRecipe
from red_cli.recipe.metric_names import metric_names
from red_cli.recipe.metrics import is_better
from red_cli.recipe.schema import resolved
from red_cli.runs.failure_record import recording_failure
from red_cli.runs.preflight import preflight_training
from red_cli.tasks.base import Encoded, Prediction
from red_cli.tasks.text.token_loss import synchronised_chunks
from red_cli.train.checkpoint import save_checkpoint
from red_cli.train.collate_ahead import collated_ahead
from red_cli.train.compiled_layers import compiled_layers
from red_cli.train.events import Evaluation, NullTrainingListener, TrainingListener
from red_cli.train.interval import Interval
from red_cli.train.lock import FolderLock
from red_cli.train.optimizer import learning_rate_of
from red_cli.train.prefix_cache import cached_prefix
from red_cli.train.resources import OwnResources
from red_cli.train.run_findings import run_findings
from red_cli.train.session import Session
from red_cli.train.start import StartedRun, find_rate, open_run, plan_run
from red_cli.train.step import optimizer_step
from red_cli.train.step_reports import LaunchedStep, StepReports, log_values
from red_cli.train.stopping import StopRequested, stop_when_asked
from red_cli.train.untuned import score_untuned


def train(loaded: LoadedRecipe, listener: TrainingListener | None = None) -> dict[str, Any]:
    """The training loop: train a recipe from the beginning, or resume from its last checkpoint.

    Returns:
        The content of metrics.json, and the run folder's path under "folder".

    Raises:
        UserError: the recipe, data, base or folder cannot be used; nothing has been trained.
        RunFailed: the loss is not finite, or not even one row fits into memory.
        Interrupted: the user stopped the run; a checkpoint is saved.
    """
    preflight_training(loaded.recipe)
    notes = take_settings_for_training(loaded.recipe)
    processes = join_processes(loaded.recipe.launch)
    listener = listener if listener is not None and processes.main else NullTrainingListener()
    for note in notes:
        listener.note(note)
    lock, resources = FolderLock(loaded.run_folder), OwnResources()
    try:
        planned = find_rate(plan_run(loaded, listener, processes, lock, resources), processes, resources)
        run = open_run(planned, processes, resources)
        with recording(run.session):
            with stop_when_asked(run.session.stop):
                for _ in steps(run.session):
                    pass
            return finish(run)
    finally:
        lock.release()


@contextmanager
def recording(session: Session) -> Iterator[None]:
    """The frame of a training loop: failures are recorded, trackers end, and ranks of a sharded base stay in sync."""
    chunks = synchronised_chunks(session.processes.max_over_ranks) if session.engine.sharded else nullcontext()
    with recording_failure(session.folder), session.trackers, chunks:
        yield


def steps(session: Session) -> Iterator[None]:
    """The steps of a training loop, its untuned score first. The caller may do other work after each step.

    Raises:
        RunFailed: the loss is not finite.
        Interrupted: it was asked to stop; a checkpoint is saved.
    """
    try:
        with cached_prefix(session, session.stop), compiled_layers(session):
            score_untuned(session)
            yield from run_steps(session)
    except StopRequested:
        path = _save(session)
        raise Interrupted(
            "interrupted",
            f"stopped after step {session.state.step} of {session.schedule.total_steps}; checkpoint {path}",
            hint="Rerun the same command to resume.",
        ) from None


def run_steps(session: Session) -> Iterator[None]:
    """Take the remaining optimiser steps, with evaluations and checkpoints; yield after each.

    Raises:
        StopRequested: the run was asked to stop. All steps that were taken are reported.
    """
    settings, state = session.settings, session.state
    session.engine.model.train()
    reports = StepReports(session)
    if _evaluation_due(session) and state.evaluated_step < state.step:
        evaluate_and_keep_best(session, None)
    remaining = islice(
        session.schedule.sampler.from_step(state.step), max(0, session.schedule.total_steps - state.step)
    )
    with collated_ahead(session.collate_step, remaining) as collated:
        while state.step < session.schedule.total_steps and not _out_of_patience(session):
            started = time.perf_counter()
            step, learning_rate = next(collated), learning_rate_of(session.optimisation.optimizer)
            try:
                numbers = optimizer_step(session, step)
            except Exception:
                reports.read_all()  # if the step before was not finite, that says more
                raise
            state.step += 1
            reports.add(LaunchedStep(state.step, step.rows, learning_rate, numbers, time.perf_counter() - started))
            evaluates = _evaluation_due(session)
            saves = evaluates if settings.save_steps is None else state.step % settings.save_steps == 0
            stops = session.stop.is_due(reports.stop)
            if evaluates or saves or stops:
                reports.read_all()
            if stops:
                raise StopRequested
            if evaluates:
                evaluate_and_keep_best(session, reports.since_evaluation.loss)
                reports.since_evaluation = Interval()
            if saves:
                _save(session)
            try:
                yield
            except StopRequested:  # by the caller
                reports.read_all()
                raise


def _save(session: Session) -> Path:
    """Save a checkpoint, if the run folder still exists."""
    session.require_folder()
    return save_checkpoint(session)


def evaluate_and_keep_best(session: Session, training_loss: float | None) -> None:
    """The loop's evaluate and keep the best: score the selection split, save the adapter if it is the best.

    Args:
        training_loss: the mean since the last evaluation, for the listener.
    """
    task, state, recipe, stop = session.prepared.task, session.state, session.recipe, session.stop
    split = task.validation_splits[0]
    whole = session.prepared.selection is session.prepared.encoded[split]
    predictions = _predict_rows(session, session.prepared.selection, stop)
    scores = task.score(predictions, session.prepared.label_names)
    value = scores[task.metric]
    better = is_better(task.metric, value, state.best_value)
    session.require_folder()
    if better:
        state.best_value, state.best_step, state.best_scores = value, state.step, scores
        record = session.base_record
        with session.engine.gathered_parameters():
            if session.processes.main:
                save_trained(session.trained, recipe, session.folder.adapter, record.revision, record.digest)
        if whole:  # else `finish` predicts all rows
            session.folder.write_predictions(split, predictions, session.prepared.source_indices[split])
    state.evaluations_without_gain = 0 if better else state.evaluations_without_gain + 1
    state.evaluated_step = state.step
    samples = [] if session.samples is None else session.samples.answers(predictions, session.runtime, stop)
    log_values(session, state.step, {f"{split}_{name}": number for name, number in scores.items()}, samples)
    session.listener.evaluated(
        Evaluation(
            step=state.step,
            total_steps=session.schedule.total_steps,
            epoch=state.step / session.schedule.sampler.steps_per_epoch,
            metric=task.metric,
            value=value,
            best=better,
            training_loss=training_loss,
            scores=scores,
            names=metric_names(scores, session.prepared.label_names),
            samples=samples,
        )
    )


def finish(run: StartedRun) -> dict[str, Any]:
    """End the loop: load the best adapter, score the other validation splits, and write metrics and model card."""
    session, search = run.session, run.search
    task, state, folder, recipe = session.prepared.task, session.state, session.folder, session.recipe
    first, *others = task.validation_splits
    encoded = session.prepared.encoded
    session.require_folder()
    scores: dict[str, Any] = {first: {"examples": len(encoded[first]), **state.best_scores}}
    session.processes.barrier()
    with session.engine.gathered_parameters(change=True):
        load_trained_weights(session.trained, recipe, folder.adapter)
    if session.prepared.selection is not encoded[first]:
        others.append(first)
    for split in others:
        predictions = _predict(session, split)
        folder.write_predictions(split, predictions, session.prepared.source_indices[split])
        scores[split] = {"examples": len(encoded[split]), **task.score(predictions, session.prepared.label_names)}
    counts = session.counts
    scored = session.prepared.scoring.scored.split
    metrics = {
        "task": recipe.task.title,
        "base": recipe.model.name_or_path,
        "method": recipe.method,
        "metric": task.metric,
        "metric_names": metric_names(state.best_scores, session.prepared.label_names),
        "best": {
            "value": state.best_value,
            "step": state.best_step,
            "epoch": state.best_step / session.schedule.sampler.steps_per_epoch,
        },
        "scoring": asdict(session.prepared.scoring),
        "splits": {scored: scores[scored], **scores},
        "paper": recipe.paper_figure,
        "parameters": {**asdict(counts), "share": counts.share},
        "init_from": recipe.train.init_from,
        "learning_rate": recipe.train.learning_rate,
        "relative_rates": recipe.relative_rates,
        "learning_rate_search": None if search is None else search.summary(),
        "training": {
            "steps": state.step,
            "seconds": round(state.seconds, 2),
            "examples_per_second": rounded_rate(state.rows / max(state.seconds, 1e-9)),
            "peak_memory_bytes": max(session.processes.gather(peak_bytes(session.processes.device))),
            "device": session.processes.device.type,
            "processes": session.processes.count,
            "strategy": session.schedule.strategy.strategy,
            "seed": recipe.train.seed,
        },
        "inputs": session.inputs.to_json(),
        **run_findings(session, scores, run.unsearched),
    }
    session.trackers.end()
    session.require_folder()
    folder.write_metrics(metrics)  # first: with it the run is finished, whatever becomes of the rest
    if session.processes.main:
        use = run_use(folder.path, recipe, session.prepared.task.kind.auto_class.__name__)
        write_text(folder.card, run_card(folder.path.name, resolved(recipe), metrics, use))
    session.processes.barrier()  # the caller may read the folder
    return {**metrics, "folder": str(folder.path)}


def _predict(session: Session, split: str, stop: StopSignal = NEVER_STOP) -> list[Prediction]:
    """The predictions for every row of a split that the training loop evaluates."""
    return _predict_rows(session, session.prepared.encoded[split], stop)


def _predict_rows(session: Session, encoded: Encoded, stop: StopSignal = NEVER_STOP) -> list[Prediction]:
    """The predictions for encoded rows, for the evaluate step of the training loop."""
    encoder, size = session.prepared.encoder, session.state.micro_batch_size
    return predict(encoder, encoded, session.runtime, micro_batch_size=size, final=False, stop=stop)


def _evaluation_due(session: Session) -> bool:
    """Whether the training loop evaluates after this step."""
    every = session.settings.eval_steps or session.schedule.sampler.steps_per_epoch
    step = session.state.step
    return step > 0 and (step % every == 0 or step == session.schedule.total_steps)


def _out_of_patience(session: Session) -> bool:
    """Whether the loop is to finish early: evaluations without gain have reached the limit of the settings."""
    patience = session.settings.early_stopping_patience
    return patience is not None and session.state.evaluations_without_gain >= patience
