"""The training loop, in reading order: set up, step, evaluate, keep the best, finish."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from red_cli.base_model.peak_memory import peak_bytes, reset_peak
from red_cli.base_model.positions import longest_sequence
from red_cli.distributed.engine import NotFinite
from red_cli.distributed.process_group import Processes, join_processes
from red_cli.errors import Interrupted, RunFailed
from red_cli.export.card import run_card
from red_cli.export.next_steps import run_use
from red_cli.files import write_text
from red_cli.formatting import rounded_rate
from red_cli.inference.predict import predict
from red_cli.inference.shared_rows import NEVER_STOP, StopSignal
from red_cli.methods.attach_save_load import load_trained_weights, save_trained
from red_cli.plan.host_memory import require_host_memory
from red_cli.plan.plan import make_plan
from red_cli.plan.prepare import prepare
from red_cli.recipe.load import LoadedRecipe
from red_cli.recipe.metric_names import metric_names
from red_cli.recipe.metrics import is_better
from red_cli.recipe.schema import resolved, with_metric
from red_cli.recipe.shipped_rates import unsearched_rate
from red_cli.runs.failure_record import recording_failure
from red_cli.runs.inputs import RunInputs, require_same_inputs
from red_cli.runs.preflight import preflight_training
from red_cli.tasks.base import Encoded, Prediction
from red_cli.tasks.text.token_loss import synchronised_chunks
from red_cli.train.checkpoint import save_checkpoint
from red_cli.train.checkpoint_folder import list_checkpoints, read_inputs
from red_cli.train.events import Evaluation, NullTrainingListener, Sample, Step, TrainingListener
from red_cli.train.findings import run_findings
from red_cli.train.init_from import init_note, require_init_from
from red_cli.train.interval import Interval
from red_cli.train.learning_rate_record import SEARCH_FILE, LearningRateSearch, find_earlier_search, with_rate
from red_cli.train.learning_rate_search import search_learning_rate
from red_cli.train.lock import FolderLock
from red_cli.train.optimizer import learning_rate_of
from red_cli.train.resume import find_resume_checkpoint, with_recorded_metric
from red_cli.train.samples import choose_samples
from red_cli.train.session import Session
from red_cli.train.setup import build_session, init_run_folder
from red_cli.train.step import optimizer_step
from red_cli.train.stopping import Stop, StopRequested, stop_when_asked
from red_cli.train.untuned import score_untuned

_SHOWN_ROWS = 8


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
    processes = join_processes(loaded.recipe.launch)
    listener = listener if listener is not None and processes.main else NullTrainingListener()
    lock = FolderLock(loaded.run_folder)
    try:
        return _train(loaded, listener, processes, lock)
    finally:
        lock.release()


def _train(loaded: LoadedRecipe, listener: TrainingListener, processes: Processes, lock: FolderLock) -> dict[str, Any]:
    """Run a training while its folder is locked: read, plan, search the learning rate, step, finish."""
    checkpoint = processes.broadcast(find_resume_checkpoint(loaded, lock, listener) if processes.main else None)
    if checkpoint is None:
        require_init_from(loaded)
    reset_peak()
    listener.status("reading the data")
    loaded = with_recorded_metric(loaded, checkpoint)
    prepared = prepare(loaded.recipe)
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
    plan = make_plan(loaded, prepared, processes)
    unsearched = unsearched_rate(loaded)
    listener.planned(plan.summary, str(loaded.run_folder))
    require_host_memory(plan.summary.host, processes)
    search = None
    if loaded.recipe.train.learning_rate == "auto":
        search = find_earlier_search(loaded, checkpoint)
        if search is not None and search.inputs is not None:
            require_same_inputs(loaded.run_folder / SEARCH_FILE, search.inputs, rows)
        search = search or search_learning_rate(loaded, prepared, plan.schedule, listener, processes)
        unsearched = search.unsearched
        loaded = with_rate(loaded, search.rate)
    session = build_session(loaded, prepared, plan.schedule, checkpoint, listener, processes)
    session.lock, session.samples = lock, samples
    if search is not None and search.inputs is not None:
        require_same_inputs(loaded.run_folder / SEARCH_FILE, search.inputs, session.inputs)
    if checkpoint is None and (note := init_note(session.recipe)) is not None:
        listener.note(note)
    init_run_folder(session, search)
    chunks = synchronised_chunks(processes.max_over_ranks) if session.engine.sharded else nullcontext()
    with recording_failure(session.folder), session.trackers, chunks:
        with stop_when_asked(processes) as stop:
            try:
                score_untuned(session, stop)
                run_steps(session, stop)
            except StopRequested:
                path = _save(session)
                raise Interrupted(
                    "interrupted",
                    f"stopped after step {session.state.step} of {session.schedule.total_steps}; checkpoint {path}",
                    hint="Rerun the same command to resume.",
                ) from None
        return finish(session, search, unsearched)


def run_steps(session: Session, stop: Stop) -> None:
    """Take the remaining optimiser steps, with evaluations and checkpoints."""
    settings, state = session.settings, session.state
    session.engine.model.train()
    learns_texts, lengths = session.recipe.task.learns_texts, session.prepared.encoded["train"].lengths
    interval, since_evaluation = Interval(), Interval()
    if _evaluation_due(session) and state.evaluated_step < state.step:
        evaluate_and_keep_best(session, stop, None)
    for rows in session.schedule.sampler.from_step(state.step):
        if state.step >= session.schedule.total_steps or _out_of_patience(session):
            break
        started = time.perf_counter()
        learning_rate = learning_rate_of(session.optimisation.optimizer)
        try:
            loss, gradient_norm = optimizer_step(session, rows)
        except NotFinite as problem:
            raise _not_finite(session, str(problem), rows) from None
        state.step += 1
        seconds = time.perf_counter() - started
        state.seconds += seconds
        state.rows += len(rows)
        for each in (interval, since_evaluation):
            each.add(loss, len(rows), int(lengths[rows].sum()), seconds)
        if state.step % settings.logging_steps == 0 or state.step == session.schedule.total_steps:
            speed = rounded_rate(interval.examples_per_second)
            values = {"loss": interval.loss, "learning_rate": learning_rate, "gradient_norm": gradient_norm}
            _log(session, {**values, "examples_per_second": speed})
        epoch = state.step / session.schedule.sampler.steps_per_epoch
        speeds = (interval.examples_per_second, interval.tokens_per_second if learns_texts else None)
        session.listener.stepped(Step(state.step, session.schedule.total_steps, epoch, loss, learning_rate, *speeds))
        if state.step % settings.logging_steps == 0:
            interval = Interval()
        stop.check()
        if _evaluation_due(session):
            evaluate_and_keep_best(session, stop, since_evaluation.loss)
            since_evaluation = Interval()
            if settings.save_steps is None:
                _save(session)
        if settings.save_steps is not None and state.step % settings.save_steps == 0:
            _save(session)


def _save(session: Session) -> Path:
    """Save a checkpoint, if the run folder still exists."""
    _require_folder(session)
    return save_checkpoint(session)


def _require_folder(session: Session) -> None:
    """End the training loop if the run's folder was deleted; writing would create only a part of it."""
    if session.processes.main and session.lock is not None:
        session.lock.require_held()


def _not_finite(session: Session, what: str, rows: NDArray[np.int64]) -> RunFailed:
    """The error that ends the loop for a loss or gradient that is not finite; its rows are written to the log."""
    shown = ", ".join(str(row) for row in rows[:_SHOWN_ROWS]) + (", …" if len(rows) > _SHOWN_ROWS else "")
    step = session.state.step + 1
    session.folder.append_log({"step": step, "not_finite": what, "rows": [int(row) for row in rows]})
    checkpoints = list_checkpoints(session.folder.checkpoints)
    last = f"Last good checkpoint: {checkpoints[-1]}." if checkpoints else "There is no checkpoint yet."
    return RunFailed(
        "run-not-finite",
        f"step {step}: {what} is not finite (training rows {shown}; all in {session.folder.log})",
        hint=f"{last} Lower train.learning_rate, or check those rows.",
    )


def evaluate_and_keep_best(session: Session, stop: Stop, training_loss: float | None) -> None:
    """The loop's evaluate and keep the best: score the selection split, save the adapter if it is the best.

    Args:
        training_loss: the mean since the last evaluation, for the listener.
    """
    task, state, recipe = session.prepared.task, session.state, session.recipe
    split = task.validation_splits[0]
    whole = session.prepared.selection is session.prepared.encoded[split]
    predictions = _predict_rows(session, session.prepared.selection, stop)
    scores = task.score(predictions, session.prepared.label_names)
    value = scores[task.metric]
    better = is_better(task.metric, value, state.best_value)
    _require_folder(session)
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
    _log(session, {f"{split}_{name}": number for name, number in scores.items()}, samples)
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


def finish(session: Session, search: LearningRateSearch | None, unsearched: str | None) -> dict[str, Any]:
    """End the loop: load the best adapter, score the other validation splits, and write metrics and model card.

    Args:
        unsearched: why the learning rate may not fit the base; None if it does.
    """
    task, state, folder, recipe = session.prepared.task, session.state, session.folder, session.recipe
    first, *others = task.validation_splits
    encoded = session.prepared.encoded
    _require_folder(session)
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
        **run_findings(session, scores, unsearched),
    }
    session.trackers.end()
    _require_folder(session)
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


def _log(session: Session, values: dict[str, float], samples: Sequence[Sample] = ()) -> None:
    """Write values of the current training step to the run's log and to the trackers; samples to the log alone."""
    step, epoch = session.state.step, session.state.step / session.schedule.sampler.steps_per_epoch
    _require_folder(session)
    answered = {"samples": [asdict(sample) for sample in samples]} if samples else {}
    session.folder.append_log({"step": step, "epoch": round(epoch, 4), **values, **answered})
    session.trackers.log({**values, "epoch": epoch}, step)


def _evaluation_due(session: Session) -> bool:
    """Whether the training loop evaluates after this step."""
    every = session.settings.eval_steps or session.schedule.sampler.steps_per_epoch
    step = session.state.step
    return step > 0 and (step % every == 0 or step == session.schedule.total_steps)


def _out_of_patience(session: Session) -> bool:
    """Whether the loop is to finish early: evaluations without gain have reached the limit of the settings."""
    patience = session.settings.early_stopping_patience
    return patience is not None and session.state.evaluations_without_gain >= patience
