"""Keys of a recipe that contradict one another."""

from __future__ import annotations

from red_cli.recipe.decoding import faults_of_decoding
from red_cli.recipe.launch import faults_of_launch
from red_cli.recipe.schema import Recipe
from red_cli.recipe.section import KeyFault


def inconsistencies(recipe: Recipe) -> list[KeyFault]:
    """Faults that only show between keys: (key path, what is wrong)."""
    train, data, task = recipe.train, recipe.data, recipe.task
    faults = [
        *task.faults(data, train),
        *faults_of_decoding(recipe.eval.generation, task.writes_text),
        *faults_of_launch(recipe),
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
            what = "the paper's cut is of GLUE's validation sets; with other data use standard and a test split"
            faults.append((("eval", "split"), what))
        elif data.validation_share is not None:
            faults.append((("eval", "split"), "paper cuts the official validation set; drop data.validation_share"))
    if train.packing and not task.learns_texts:
        faults.append((("train", "packing"), f"packing is for tasks that learn texts; {task.name} pads"))
    if recipe.eval.metrics and not task.learns_texts:
        faults.append((("eval", "metrics"), f"they are of generated texts; {task.name} has its own"))
    if recipe.method in ("full", "bitfit") and recipe.model.quantization is not None:
        faults.append((("method",), f"{recipe.method} trains the base's own parameters; drop model.quantization"))
    if recipe.method in ("full", "bitfit") and recipe.model.dtype in ("bfloat16", "float16"):
        faults.append((("model", "dtype"), f"method {recipe.method} takes float32 (train.bf16 computes in bfloat16)"))
    if recipe.lora is not None and recipe.lora.positions is not None and recipe.lora.target_modules is not None:
        faults.append((("lora", "target_modules"), "give lora.positions or lora.target_modules, not both"))
    if recipe.method == "head" and task.writes_text:
        faults.append((("method",), "a language model has no head of its own to train"))
    if train.head_learning_rate is not None and task.writes_text:
        faults.append((("train", "head_learning_rate"), "a language model has no new head; drop this key"))
    if recipe.method == "head" and train.learning_rate == "auto" and train.head_learning_rate is not None:
        faults.append((("train", "head_learning_rate"), "nothing is left for learning_rate: auto to find"))
    if recipe.eval.metric is not None and recipe.eval.metric not in task.metrics:
        faults.append((("eval", "metric"), f"this task is scored by {', '.join(task.metrics)}"))
    return faults
