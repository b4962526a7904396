"""Experiment trackers, through Accelerate."""

from __future__ import annotations

import difflib
import importlib.util
from collections.abc import Sequence

from accelerate.utils import LoggerType

from red_cli.errors import UserError


def require_trackers(names: Sequence[str]) -> None:
    """Check that every tracker is one that Accelerate knows and that its package is installed.

    Raises:
        UserError: it is not.
    """
    known = [member.value for member in LoggerType if member.value != "all"]
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"Did you mean {near[0]}?" if near else f"Known: {', '.join(known)}"
            raise UserError(f"train.report_to: no such tracker: {name}", hint=hint)
        if importlib.util.find_spec(name) is None:
            extra = "'red-cli[track]'" if name == "tensorboard" else name
            raise UserError(f"train.report_to: {name} is not installed", hint=f"Install it: pip install {extra}")
