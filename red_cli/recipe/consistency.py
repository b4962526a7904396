"""Find keys of a recipe that contradict each other."""

from __future__ import annotations

from red_cli.recipe.methods import METHODS
from red_cli.recipe.schema import Recipe
from red_cli.recipe.sections import DEEPSPEED, KeyFault, faults_of_decoding


def inconsistencies(recipe: Recipe) -> list[KeyFault]:
    """Faults between several keys: (key path, what is wrong)."""
    train, data, task, method = recipe.train, recipe.data, recipe.task, recipe.method_spec
    faults = [
        *task.faults(data, train),
        *faults_of_decoding(recipe.eval.generation, task.writes_text),
        *_faults_of_launch(recipe),
        *_faults_of_options(recipe),
    ]
    if train.warmup_steps is not None and train.warmup_ratio > 0:
        faults.append((("train", "warmup_steps"), "give warmup_steps or warmup_ratio, not both"))
    if train.micro_batch_size is not None and train.micro_batch_size > train.batch_size:
        faults.append((("train", "micro_batch_size"), f"larger than batch_size ({train.batch_size})"))
    if data.path is not None and (files := task.conflicting_files(data)):
        faults.append((("data", files[0]), "give data.path or single files, not both (data.path=null drops the path)"))
    if data.validation is not None and data.validation_share is not None:
        faults.append((("data", "validation_share"), "give data.validation or data.validation_share, not both"))
    if not task.has_source and data.path is None and data.train is None:
        faults.append((("data",), "name the data: data.path, or data.train and data.validation"))
    if recipe.eval.split == "paper":
        if not task.has_paper_split:
            what = "the paper divides the validation sets of GLUE; with other data use standard and a test split"
            faults.append((("eval", "split"), what))
        elif data.validation_share is not None:
            faults.append((("eval", "split"), "paper divides the official validation set; drop data.validation_share"))
    if train.packing and not task.learns_texts:
        faults.append((("train", "packing"), f"packing is for tasks that train on texts, and {task.name} does not"))
    if recipe.eval.metrics and not task.learns_texts:
        faults.append((("eval", "metrics"), f"these metrics score generated texts; {task.name} has its own metrics"))
    if method.base_parameters != "none" and recipe.model.quantization is not None:
        faults.append((("method",), f"{recipe.method} trains the base's own parameters; drop model.quantization"))
    if method.base_parameters != "none" and recipe.model.dtype in ("bfloat16", "float16"):
        faults.append((("model", "dtype"), f"method {recipe.method} takes float32 (train.bf16 computes in bfloat16)"))
    if method.only_head and task.writes_text:
        faults.append((("method",), "a language model has no separate head to train"))
    if train.head_learning_rate is not None and task.writes_text:
        faults.append((("train", "head_learning_rate"), "a language model has no new head; drop this key"))
    if method.only_head and train.learning_rate == "auto" and train.head_learning_rate is not None:
        faults.append((("train", "head_learning_rate"), "method head leaves no rate for learning_rate: auto to find"))
    if recipe.eval.metric is not None and recipe.eval.metric not in task.metrics:
        faults.append((("eval", "metric"), f"the metrics of this task are {', '.join(task.metrics)}"))
    return faults


def _faults_of_options(recipe: Recipe) -> list[KeyFault]:
    given = {name: options for name in METHODS if (options := recipe.options_of(name)) is not None}
    return [
        ((name, key), what) for name, options in given.items() for key, what in METHODS[name].contradictions(options)
    ]


def _faults_of_launch(recipe: Recipe) -> list[KeyFault]:
    """Faults between keys of `launch`, and between these and other keys: (key path, what is wrong)."""
    launch, strategy = recipe.launch, recipe.launch.strategy
    faults: list[KeyFault] = []
    processes = launch.num_processes

    def fault(key: str, what: str) -> None:
        faults.append((("launch", key), what))

    if launch.machine_rank >= launch.num_machines:
        fault("machine_rank", f"ranks start at 0, and there are {launch.num_machines} machines (launch.num_machines)")
    if launch.num_machines > 1 and launch.main_process_ip is None:
        fault("main_process_ip", "required with several machines: the address of the machine of rank 0")
    if processes is not None and processes % launch.num_machines:
        fault("num_processes", f"must be a multiple of launch.num_machines ({launch.num_machines})")
    if strategy == "single" and max(processes or 1, launch.num_machines) > 1:
        fault("strategy", "single is one process; use ddp, zero2, zero3 or fsdp")
    if launch.deepspeed_config is not None and strategy not in DEEPSPEED:
        fault("deepspeed_config", "works only with the strategies zero2 and zero3")
    if launch.offload and strategy != "zero3":
        fault("offload", "works only with the strategy zero3")
    if recipe.model.quantization is not None and strategy in (*DEEPSPEED, "fsdp"):
        fault("strategy", f"{strategy} does not support model.quantization; use ddp")
    if recipe.method_spec.base_parameters == "all" and strategy == "fsdp":
        what = f"fsdp shards frozen parameters, and method {recipe.method} freezes none; use ddp, zero2 or zero3"
        fault("strategy", what)
    if recipe.train.learning_rate == "auto" and strategy in DEEPSPEED:
        fault("strategy", f"{strategy} does not support learning_rate: auto; search with single, ddp or fsdp")
    return faults
