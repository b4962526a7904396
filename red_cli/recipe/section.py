"""What the sections of a recipe are made of."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

_MOST = 1_000_000_000  # of anything that is counted: more is a slip, and overflows somewhere further on

Share = Annotated[float, Field(gt=0, lt=1)]
Dropout = Annotated[float, Field(ge=0, lt=1)]
Count = Annotated[int, Field(gt=0, le=_MOST)]
CountFromZero = Annotated[int, Field(ge=0, le=_MOST)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
KeyFault = tuple[tuple[str, ...], str]  # key path, what is wrong with its value


class Section(BaseModel):
    """A section of a recipe."""

    model_config = ConfigDict(extra="forbid", strict=True, protected_namespaces=(), allow_inf_nan=False)
