"""The commands that a user may want to run next, from the facts about a run or an export."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from red_cli.base_model.base_files import BaseFiles, read_base
from red_cli.base_model.hub import cached_folder
from red_cli.export.adapter_arrays import AdapterArrays, read_vectors
from red_cli.export.card import Use
from red_cli.export.exported_model import exported_as_llama, exported_merged
from red_cli.export.gguf_model import GGUF_NAME, require_gguf
from red_cli.export.modelling_file import is_own_code
from red_cli.export.python_use import DECODER, Input, gguf_use, model_use, one_line
from red_cli.export.servers import Target, unread_biases
from red_cli.export.transformers_classes import auto_class
from red_cli.methods.trained_description import trained_method
from red_cli.recipe.methods import METHODS
from red_cli.recipe.schema import Recipe
from red_cli.runs.folder import RunFolder
from red_cli.runs.folder_kind import is_trained_folder

MERGED = "merged"  # the folder in a run folder that is suggested for its export
CONSENT = "model.trust_remote_code=true"  # lets the modelling file of an export run
Form = Literal["run", "adapter", "model", "gguf"]
Export = Literal["merged", "code", "gguf"]


@dataclass(frozen=True)
class Facts:
    """What the next commands depend on.

    Attributes:
        place: the run, adapter or model folder, or the GGUF file, as the user names it.
        scored: whether it was scored just now.
        recipe: None if it is not known.
        exports: the forms of export that are possible; of runs and adapters.
        loader: the auto class of transformers that loads the model; of models.
        with_code: whether the model has its own modelling file.
        unread: server -> the modules whose biases it has no place for; of models, and servers that run them.
    """

    place: Path
    form: Form
    recipe: Recipe | None
    scored: bool = False
    exports: tuple[Export, ...] = ()
    loader: str = ""
    with_code: bool = False
    unread: Mapping[Target, list[str]] = field(default_factory=dict)

    def output_of(self, form: Export) -> Path:
        """Where an export in this form is suggested: in a run folder, and next to an adapter."""
        if self.form == "run":
            return self.place / (GGUF_NAME if form == "gguf" else MERGED)
        name = self.place.resolve().name + (".gguf" if form == "gguf" else f"-{MERGED}")
        return Path(os.path.normpath(self.place / ".." / name))


def facts_about(place: Path, recipe: Recipe | None, scored: bool = False) -> Facts:
    """The facts that decide the next steps with a run, an adapter, a model folder, or a GGUF file."""
    run = RunFolder(place)
    adapter = next((folder for folder in (run.adapter, place) if is_trained_folder(folder)), None)
    if adapter is not None:
        form: Form = "adapter" if adapter == place else "run"
        facts = Facts(place, form, recipe, scored, _exports(adapter))
        return replace(facts, exports=tuple(form for form in facts.exports if not facts.output_of(form).exists()))
    if not (place / "config.json").is_file():
        return Facts(place / GGUF_NAME if place.is_dir() else place, "gguf", recipe)
    files = read_base(str(place), place)
    architecture = str(files.architecture)
    own = is_own_code(place, architecture)
    return Facts(place, "model", recipe, scored, (), auto_class(architecture), own, _unread(files))


def suggestions(place: Path, recipe: Recipe | None, scored: bool = False) -> list[str]:
    """The next steps with a folder or file that a command has finished; none where they cannot be found."""
    try:
        return next_steps(facts_about(place, recipe, scored))
    except Exception:  # a suggestion must not turn a finished command into a failed one
        return []


def next_steps(facts: Facts) -> list[str]:
    """The commands to run next, the most useful first."""
    named = shlex.quote(str(facts.place))
    if facts.form == "gguf":
        return gguf_use(str(facts.place))
    task = None if facts.recipe is None else facts.recipe.task
    consent = f" {CONSENT}" if facts.with_code else ""
    lines = [] if task is None else [f"red predict {named} FILE{consent}"]
    if task is not None and task.can_chat:
        lines.append(f"red chat {named}{consent}")
    if facts.form == "model":
        use = model_use(str(facts.place), facts.loader, Input.of(facts.recipe), facts.with_code)
        lines += [one_line(use), *_servers(facts, named)]
    if not facts.scored and facts.recipe is not None:
        lines.append(f"red eval {named}{consent}")
    for form in facts.exports:
        option = "" if form == "merged" else f" --format {form}"
        lines.append(f"red export {named} --output {shlex.quote(str(facts.output_of(form)))}{option}")
    return lines


def run_use(folder: Path, recipe: Recipe, loader: str) -> Use:
    """The next steps with a finished run, for its card: commands in its folder, and Python; none if unknown."""
    try:
        facts = facts_about(folder, recipe)
        form = next((form for form in facts.exports if form != "gguf"), None)
        python = [] if form is None else model_use(MERGED, loader, Input.of(recipe), form == "code")
        return Use(next_steps(replace(facts, place=Path())), python)
    except Exception:  # a suggestion must not end a finished run
        return Use()


def _servers(facts: Facts, named: str) -> list[str]:
    """The next steps with servers that read all biases of a model of texts, and llama.cpp's converter."""
    if facts.loader != DECODER or facts.with_code:
        return []
    lines = [f"transformers serve {named}"]
    if "vllm" in facts.unread:
        option = "--model-impl transformers  # vLLM's own code drops biases of this model"
        lines.append(f"vllm serve {named}" + (f" {option}" if facts.unread["vllm"] else ""))
    if facts.unread.get("llama.cpp") == []:
        lines.append(f"python convert_hf_to_gguf.py {named}")
    return lines


def _unread(files: BaseFiles) -> dict[Target, list[str]]:
    """The modules whose biases each server has no place for, of the servers that run a model of texts."""
    servers: tuple[Target, ...] = ("vllm", "llama.cpp")
    found = {server: unread_biases(server, files.model_type, files.tensors.items()) for server in servers}
    return {server: paths for server, paths in found.items() if paths is not None}


def _exports(adapter: Path) -> tuple[Export, ...]:
    """The forms of model in which an adapter can be exported."""
    if not METHODS[trained_method(adapter)].edits:
        return ()
    try:
        arrays = read_vectors(adapter)
        name = arrays.config.base_model_name_or_path
        folder = Path(name) if Path(name).is_dir() else cached_folder(name, arrays.config.revision)
        base = None if folder is None else read_base(name, folder)
    except Exception:  # red export says what is wrong
        base = None
    if base is None:
        return ("merged",)

    merged: Export = "merged" if _works(lambda: exported_merged(base, arrays, None)) else "code"
    return (merged, "gguf") if _works(lambda: _require_gguf(base, arrays)) else (merged,)


def _works(attempt: Callable[[], object]) -> bool:
    """Whether the plan of an export succeeds."""
    try:
        attempt()
    except Exception:  # a suggestion must not end a finished run
        return False
    return True


def _require_gguf(base: BaseFiles, arrays: AdapterArrays) -> None:
    """Check that GGUF is a next step: that the export of an adapter to a GGUF file succeeds."""
    llama = exported_as_llama(base, arrays, None)
    require_gguf(llama.architecture, llama.config, base.folder)
