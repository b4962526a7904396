"""The section `launch`: how many processes train, on how many machines, and how the base is spread over them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from red_cli.recipe.roles import LocalPath
from red_cli.recipe.section import Count, CountFromZero, Positive, Section

Strategy = Literal["auto", "single", "ddp", "zero2", "zero3", "fsdp"]
DEEPSPEED = ("zero2", "zero3")
SHARDED = ("zero3", "fsdp")  # each process holds a part of the base


class Launch(Section):
    """On what the run runs. Nothing here changes what is trained."""

    strategy: Strategy = Field(
        default="auto",
        description="single, ddp (the base whole on each device), zero2, zero3 (DeepSpeed; extra: deepspeed) or fsdp; "
        "zero3 and fsdp spread the base over the devices. auto: ddp where the base fits on each, else zero3.",
    )
    num_processes: Count | None = Field(
        default=None, description="Processes on all machines together, one for each device; default: all visible ones."
    )
    num_machines: Count = Field(default=1, description="How many machines; the command is given on each.")
    machine_rank: CountFromZero = Field(default=0, description="Which of the machines this is, from 0, the main one.")
    main_process_ip: str | None = Field(default=None, description="Address of the main machine.")
    main_process_port: Annotated[int, Field(ge=1, le=65535)] | None = Field(
        default=None, description="A free port of the main machine; default: any, on several machines 29500."
    )
    timeout: Positive = Field(default=600.0, le=10_000_000, description="Seconds to wait for the other machines.")
    deepspeed_config: Annotated[str | None, LocalPath.ALWAYS] = Field(
        default=None, description="A DeepSpeed configuration (JSON) of one's own."
    )
    offload: bool = Field(default=False, description="With zero3: keep the base in the machine's memory.")
