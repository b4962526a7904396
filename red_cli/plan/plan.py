"""What a recipe will do, without doing it: the schedule that training uses, and the summary that is shown."""

from __future__ import annotations

from dataclasses import dataclass

from red_cli.base_model.load import skeleton
from red_cli.distributed.processes import SINGLE_PROCESS, Processes
from red_cli.edit.model import head_parameter_names
from red_cli.methods.table import attach_method
from red_cli.plan.prepare import Prepared
from red_cli.plan.schedule import Schedule, make_schedule
from red_cli.plan.summary import PlanSummary, summarise
from red_cli.recipe.load import Loaded


@dataclass(frozen=True)
class Plan:
    """A run before it starts."""

    schedule: Schedule
    summary: PlanSummary


def make_plan(loaded: Loaded, prepared: Prepared, processes: Processes = SINGLE_PROCESS) -> Plan:
    """Plan a run from the configuration alone; the model is built without weights.

    Raises:
        UserError: the architecture or a position is not known, or the number of steps cannot be trained.
    """
    model = skeleton(prepared.base.config, loaded.recipe.model, prepared.task.kind)
    trained = attach_method(model, loaded.recipe, head_parameter_names(model))
    schedule = make_schedule(loaded, prepared, trained, processes)
    return Plan(schedule, summarise(loaded, prepared, trained, schedule, processes))
