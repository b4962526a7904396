"""Arguments and options of commands: those of several, and the choices of an option."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from red_cli.commands.completion import complete_override, complete_recipe, complete_run


class FormatOption(str, Enum):
    """The form of an export."""

    merged = "merged"
    adapter = "adapter"
    code = "code"
    gguf = "gguf"


class TargetOption(str, Enum):
    """The values of the option --target: what will run an exported model."""

    transformers = "transformers"
    vllm = "vllm"
    llama_cpp = "llama.cpp"


class DtypeOption(str, Enum):
    """The dtype of exported weights."""

    float32 = "float32"
    float16 = "float16"
    bfloat16 = "bfloat16"


RecipeArgument = Annotated[
    str,
    typer.Argument(
        metavar="RECIPE", help="A recipe's name, or the path of a YAML file.", autocompletion=complete_recipe
    ),
]
RecipeOrFile = Annotated[
    str,
    typer.Argument(
        metavar="RECIPE|FILE",
        help="A recipe's name, the path of a YAML file, a data file (.csv .tsv .json .jsonl, each also with .gz; "
        ".parquet .arrow .feather .xlsx), or a folder with a training file. The recipe of data is guessed, shown and "
        "written next to the file.",
        autocompletion=complete_recipe,
    ),
]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[KEY=VALUE]...", help="Recipe keys to set, e.g. train.seed=43", autocompletion=complete_override
    ),
]
Variant = Annotated[str | None, typer.Option("--variant", "-v", help="A variant of the recipe.")]
Json = Annotated[
    bool, typer.Option("--json", help="Print one JSON object on standard output, all else on standard error.")
]
Seeds = Annotated[
    str | None,
    typer.Option("--seeds", metavar="N,N-N", help="Train under each of these seeds, such as 42-46, one after another."),
]
Together = Annotated[
    bool,
    typer.Option("--together", help="Train all runs in this process on one base, in turn, with the same results."),
]
TargetArgument = Annotated[
    Path,
    typer.Argument(
        metavar="RUN", help="A run folder, an adapter folder, or an exported model.", autocompletion=complete_run
    ),
]
RecipeOption = Annotated[str | None, typer.Option("--recipe", help="The recipe, for an adapter without one.")]
