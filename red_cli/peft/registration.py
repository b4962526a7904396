"""Register RED in PEFT: a member of its closed enum of types, and its tables of configurations and tuners."""

from __future__ import annotations

from typing import Any

import peft
from packaging.version import Version
from peft.utils import register_peft_method
from peft.utils.peft_types import PeftType

from red_cli.errors import UserError

NAME = "RED"
PREFIX = ".red."  # of a vector's name, after the path of its module
# Before it, transformers' own `from_pretrained` of an adapter folder loads the base alone without a word
_LOWEST = "0.20"


def red_type() -> Any:
    """The member RED of PEFT's enum of types, registered there if it is not yet.

    An enum is closed, and PEFT offers no other way: this is the only place that reaches into it.

    Raises:
        UserError: PEFT is too old, or its enum does not take the member.
    """
    if Version(peft.__version__) < Version(_LOWEST):
        raise UserError(
            "version-too-old",
            f"red_cli.peft needs PEFT {_LOWEST} or later; here is {peft.__version__}",
            hint=f"pip install 'peft>={_LOWEST}'",
        )
    if NAME not in PeftType.__members__:
        try:
            member = str.__new__(PeftType, NAME)
            member._name_, member._value_, member._sort_order_ = NAME, NAME, len(PeftType)
            PeftType._member_names_.append(NAME)
            PeftType._member_map_[NAME] = PeftType._value2member_map_[NAME] = member
            type.__setattr__(PeftType, NAME, member)
        except (AttributeError, TypeError) as error:
            raise _changed(str(error)) from error
    member = PeftType.__members__[NAME]
    ways = (getattr(PeftType, NAME, None), PeftType[NAME], PeftType(NAME), [*PeftType][-1])
    if any(found is not member for found in ways) or (member, member.value, member.name) != (NAME, NAME, NAME):
        raise _changed("its enum of types does not find the member that was added")
    return member


def register(config: type, model: type) -> None:
    """Register the classes of RED's configuration and tuner, so that PEFT finds them by `peft_type`.

    Raises:
        UserError: PEFT is too old, or has changed so that RED cannot be registered.
    """
    red_type()
    try:
        register_peft_method(name=NAME.lower(), config_cls=config, model_cls=model, prefix=PREFIX)
    except (KeyError, TypeError, ValueError) as error:
        raise _changed(str(error)) from error


def _changed(reason: str) -> UserError:
    """The error where RED cannot be registered in this version of PEFT."""
    return UserError(
        "unsupported-method",
        f"RED cannot be registered in PEFT {peft.__version__}: {reason}",
        hint="Install a version that red was tested with, 0.20 or 0.21; or load without PEFT: red_cli.load(FOLDER).",
    )
