"""The section `launch`: how many processes train, on how many machines, and how the base is spread over them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from red_cli.recipe.roles import LocalPath
from red_cli.recipe.section import Count, CountFromZero, Positive, Section

if TYPE_CHECKING:
    from red_cli.recipe.schema import Recipe

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


def faults_of_launch(recipe: Recipe) -> list[tuple[tuple[str, ...], str]]:
    """What is wrong between the keys of `launch`, and between them and others: (key path, what is wrong)."""
    launch, strategy = recipe.launch, recipe.launch.strategy
    faults: list[tuple[tuple[str, ...], str]] = []
    processes = launch.num_processes

    def fault(key: str, what: str) -> None:
        faults.append((("launch", key), what))

    if launch.machine_rank >= launch.num_machines:
        fault("machine_rank", f"machines count from 0; there are {launch.num_machines} (launch.num_machines)")
    if launch.num_machines > 1 and launch.main_process_ip is None:
        fault("main_process_ip", "required with several machines: the address of the main one")
    if processes is not None and processes % launch.num_machines:
        fault("num_processes", f"counts the processes of all {launch.num_machines} machines, each having as many")
    if strategy == "single" and max(processes or 1, launch.num_machines) > 1:
        fault("strategy", "single is one process; take ddp, zero2, zero3 or fsdp")
    if launch.deepspeed_config is not None and strategy not in DEEPSPEED:
        fault("deepspeed_config", "is for the strategies zero2 and zero3")
    if launch.offload and strategy != "zero3":
        fault("offload", "is for the strategy zero3")
    if recipe.model.quantization is not None and strategy in (*DEEPSPEED, "fsdp"):
        fault("strategy", f"{strategy} does not go with model.quantization; take ddp")
    if recipe.method == "full" and strategy == "fsdp":
        fault("strategy", "fsdp spreads what is frozen, and method full freezes nothing; take ddp, zero2 or zero3")
    if recipe.train.learning_rate == "auto" and strategy in DEEPSPEED:
        fault("strategy", f"{strategy} takes a learning rate that is given; search it with single, ddp or fsdp")
    return faults
