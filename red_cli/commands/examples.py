"""Examples of each command, shown at the end of its help."""

from __future__ import annotations

# Name of a command -> two or three command lines
EXAMPLES: dict[str, tuple[str, ...]] = {
    "train": (
        "red train quickstart",
        "red train glue_rte --variant roberta-large train.learning_rate=5e-3",
        "red train mine.yaml --seeds 42-44 --together output.dir=runs/mine",
    ),
    "compare": (
        "red compare quickstart --methods red,lora,head",
        "red compare mine.yaml --methods red,full --seeds 42,43 train.max_steps=500",
        "red compare mine.yaml --methods red,lora lora:train.learning_rate=2e-3",
    ),
    "check": (
        "red check quickstart",
        "red check mine.yaml train.batch_size=64 --device-memory 24",
    ),
    "predict": (
        "red predict runs/quickstart-seed42 new_rows.csv",
        "red predict runs/quickstart-seed42 new_rows.csv -o predictions.csv",
        "red predict runs/quickstart-seed42 rows.csv launch.num_processes=2 -o out.csv",
    ),
    "eval": (
        "red eval runs/quickstart-seed42",
        "red eval runs/quickstart-seed42 data.test=new_rows.csv --split test",
        "red eval exported --suite open-llm --limit 100",
    ),
    "export": (
        "red export runs/quickstart-seed42 --output exported",
        "red export runs/quickstart-seed42 -o exported --dtype bfloat16",
        "red export runs/quickstart-seed42 -o shared --format adapter",
    ),
    "convert": (
        "red convert delta_vector.pth --base roberta-base --output adapter",
        "red convert model.gguf --output base",
    ),
    "report": (
        "red report runs/quickstart-seed42",
        "red report runs --output report",
    ),
    "runs": (
        "red runs",
        "red runs experiments --json",
    ),
    "score": (
        "red score --predictions answers.txt --references truth.txt",
        "red score -p answers.txt -r truth.txt --metrics BLEU,chrF --json",
    ),
    "chat": (
        "red chat runs/instruction-seed42",
        "red chat runs/instruction-seed42 --base --system 'Answer in one sentence.'",
        "red chat runs/instruction-seed42 eval.generation.max_new_tokens=200",
    ),
    "recipes": (
        "red recipes",
        "red recipes show glue_rte --variant roberta-large",
        "red recipes copy quickstart experiments",
    ),
    "keys": (
        "red keys",
        "red keys train.learning_rate",
        "red keys 'data.max*' --json",
    ),
    "schema": (
        "red schema",
        "red schema > recipe.schema.json",
    ),
}


def examples_of(command: str) -> str | None:
    """The examples of a command as the last part of its help, one to a line; None if it has none."""
    if command not in EXAMPLES:
        return None
    return "\n\n".join(("Examples:", *EXAMPLES[command]))
