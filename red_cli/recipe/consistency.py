"""Find keys of a recipe that contradict each other."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

from red_cli.recipe.keys_by_role import values_of
from red_cli.recipe.methods import METHODS
from red_cli.recipe.roles import Role
from red_cli.recipe.schema import Recipe, key_at
from red_cli.recipe.sections import DEEPSPEED, Decoding, KeyFault


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
    if train.compile and recipe.model.quantization is not None:
        faults.append((("train", "compile"), "layers of a quantised base are not compiled; drop model.quantization"))
    if train.class_weights is not None and not task.has_classes:
        faults.append((("train", "class_weights"), f"only classification has classes to weigh; {task.title} has none"))
    if recipe.eval.samples and not task.learns_texts:
        what = f"samples are generated texts; the answers of {task.name} are in predictions/ after each best evaluation"
        faults.append((("eval", "samples"), what))
    if method.base_parameters != "none" and recipe.model.quantization is not None:
        faults.append((("method",), f"{recipe.method} trains the base's own parameters; drop model.quantization"))
    if method.base_parameters != "none" and recipe.model.dtype in ("bfloat16", "float16"):
        faults.append((("model", "dtype"), f"method {recipe.method} takes float32 (train.bf16 computes in bfloat16)"))
    if method.only_head and task.writes_text:
        faults.append((("method",), "a language model has no separate head to train"))
    if train.head_learning_rate is not None and task.writes_text:
        faults.append((("train", "head_learning_rate"), "a language model has no new head; drop this key"))
    if recipe.eval.metric is not None and recipe.eval.metric not in task.metrics:
        faults.append((("eval", "metric"), f"the metrics of this task are {', '.join(task.metrics)}"))
    return faults


def _faults_of_options(recipe: Recipe) -> list[KeyFault]:
    """The contradictions within the options of each method that the recipe gives."""
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
    if recipe.train.compile and strategy in DEEPSPEED:
        faults.append((("train", "compile"), f"not with launch.strategy={strategy}; take single, ddp or fsdp"))
    if launch.shard_size is not None and strategy != "fsdp":
        fault("shard_size", "works only with the strategy fsdp")
    if launch.shard_size is not None and (processes or launch.shard_size) % launch.shard_size:
        fault("shard_size", f"must divide launch.num_processes ({processes})")
    if recipe.model.quantization is not None and strategy in (*DEEPSPEED, "fsdp"):
        fault("strategy", f"{strategy} does not support model.quantization; use ddp")
    if recipe.method_spec.base_parameters == "all" and strategy == "fsdp":
        what = f"fsdp shards frozen parameters, and method {recipe.method} freezes none; use ddp, zero2 or zero3"
        fault("strategy", what)
    return faults


def mistakes(recipe: Recipe) -> list[KeyFault]:
    """Values that are certainly mistakes: (key path, what is wrong)."""
    return [
        *_empty_texts(recipe),
        *_warmup(recipe),
        *_lengths_of_answers(recipe),
        *_columns(recipe),
        *recipe.task.mistakes(recipe.data),
    ]


def idle_keys(recipe: Recipe) -> list[KeyFault]:
    """Keys that are set but have no effect: (key path, why).

    These are not faults: a file may have options for several methods, and a recipe for a data set on the Hub may be
    used with a local copy.
    """
    return [*_options_of_other_methods(recipe), *_names_on_the_hub(recipe), *_others(recipe)]


def _empty_texts(recipe: Recipe) -> Iterator[KeyFault]:
    """Yield recipe keys whose text is empty but must not be."""
    for key, value in values_of(recipe, frozenset(Role)).items():
        known = key_at(key)
        if isinstance(value, str) and not value.strip() and not (known and known.may_be_empty):
            yield tuple(key.split(".")), "is empty; set a value, or remove the key"


def _warmup(recipe: Recipe) -> Iterator[KeyFault]:
    """Yield mistaken warm-up keys: more steps than the run has, or any with a constant learning rate."""
    train = recipe.train
    if train.warmup_steps is not None and train.max_steps is not None and train.warmup_steps > train.max_steps:
        what = (
            f"{train.warmup_steps:,} warm-up steps exceed the steps of the run (train.max_steps: {train.max_steps:,})"
        )
        yield ("train", "warmup_steps"), what
    if train.lr_scheduler_type == "constant":
        for key in ("warmup_ratio", "warmup_steps"):
            if getattr(train, key):
                what = "lr_scheduler_type constant has no warm-up; use constant_with_warmup, or remove this key"
                yield ("train", key), what


def _lengths_of_answers(recipe: Recipe) -> Iterator[KeyFault]:
    """Yield the mistake of a minimum answer length above the maximum."""
    decoding = recipe.eval.generation
    if decoding is None:
        return
    most, what = decoding.max_new_tokens, "max_new_tokens"
    if most is None:
        most, what = recipe.task.default_new_tokens, "the default of max_new_tokens"
    if most is not None and decoding.min_new_tokens > most:
        yield ("eval", "generation", "min_new_tokens"), f"{decoding.min_new_tokens} is above {what} ({most})"


def _columns(recipe: Recipe) -> Iterator[KeyFault]:
    """Columns that two parts of a row are read from."""
    names = {part: name for part, name in recipe.task.columns_read(recipe.data.columns).items() if name is not None}
    for first, second in combinations(names, 2):
        if names[first] == names[second]:
            given = next(part for part in (first, second) if getattr(recipe.data.columns, part) is not None)
            other = second if given == first else first
            yield ("data", "columns", given), f"{names[given]!r} is also the column of the {other}"


def _options_of_other_methods(recipe: Recipe) -> Iterator[KeyFault]:
    """Yield the keys of methods that the recipe does not use, which have no effect."""
    for method in METHODS:
        options = recipe.options_of(method)
        if options is None or method == recipe.method:
            continue
        plain = type(options)().model_dump()
        changed: list[tuple[str, ...]] = [
            (method, key) for key, value in options.model_dump().items() if value != plain[key]
        ]
        if not changed and type(recipe).model_fields[method].default is None:  # set, if only to defaults
            changed.append((method,))
        for path in changed:
            yield path, f"has no effect: the method is {recipe.method}"


def _names_on_the_hub(recipe: Recipe) -> Iterator[KeyFault]:
    """Yield the keys that have an effect only on the Hub, where the recipe's data or base are local."""
    data, model = recipe.data, recipe.model
    if data.train is not None or (data.path is not None and _is_local(data.path)):
        for key in ("name", "revision", "splits"):
            if getattr(data, key) is not None:
                yield ("data", key), "has no effect: the data are local files"
    if model.revision is not None and _is_local(model.name_or_path):
        yield ("model", "revision"), "has no effect: the base is a local folder"


def _others(recipe: Recipe) -> Iterator[KeyFault]:
    """Yield other keys of a recipe that contradict each other, so that one has no effect."""
    launch, data, task = recipe.launch, recipe.data, recipe.task
    for key, what in recipe.method_spec.unused(recipe.options):
        yield (recipe.method, key), what
    if launch.num_machines == 1 and launch.main_process_ip is not None:
        yield ("launch", "main_process_ip"), "has no effect on a single machine (launch.num_machines)"
    if None not in (data.max_length, data.max_prompt_length) and data.max_prompt_length >= data.max_length:  # type: ignore[operator]
        yield ("data", "max_prompt_length"), f"has no effect: data.max_length is {data.max_length}"
    reason = task.why_no_text(recipe.eval.metric)
    if reason is not None and recipe.eval.generation not in (None, Decoding()):
        yield ("eval", "generation"), f"has no effect: {reason}, so no text is generated"


def _is_local(path: str) -> bool:
    """Whether a data path or base of the recipe exists on this machine."""
    try:
        return Path(path).exists()
    except (OSError, ValueError):
        return False


def faults_of_decoding(decoding: Decoding | None, generates: bool) -> list[KeyFault]:
    """The keys of decoding that have no effect, inconsistent with the rest: (key path, what is wrong)."""
    path = ("eval", "generation")
    if decoding is None:
        return []
    if not generates:
        return [(path, "this task generates no texts")]
    needs: dict[str, tuple[str, bool]] = {
        "length_penalty": ("num_beams above 1", decoding.num_beams > 1),
        "early_stopping": ("num_beams above 1", decoding.num_beams > 1),
        **dict.fromkeys(("temperature", "top_k", "top_p"), ("do_sample: true", decoding.do_sample)),
    }
    idle = [name for name, (_, met) in needs.items() if not met and getattr(decoding, name) != _default(name)]
    return [((*path, name), f"has an effect only with {needs[name][0]}") for name in idle]


def _default(name: str) -> Any:
    """The default value of a key of decoding, one of the sections of a recipe."""
    return Decoding.model_fields[name].default
