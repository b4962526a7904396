"""Export a trained adapter: to merged weights, to a model with its own code, or as an adapter to be shared."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Literal

from red_cli.base_model.files import read_base
from red_cli.base_model.hub import base_folder, cached_folder, commit_of, push, require_push_access
from red_cli.edit.adapter_config import CONFIG_FILE, WEIGHTS_FILE
from red_cli.errors import UserError, one_line
from red_cli.export.card import adapter_card, merged_card
from red_cli.export.local_paths import exported_recipe, shared_name, shared_recipe
from red_cli.export.model import Exported, merged_model, model_with_code, require_base, require_space, write_model
from red_cli.export.vectors import AdapterArrays, read_vectors
from red_cli.files import replacing_folder, write_json, write_text
from red_cli.methods.trained_files import trained_method
from red_cli.recipe.keys import role_of
from red_cli.recipe.methods import METHODS
from red_cli.recipe.overrides import named_keys
from red_cli.recipe.roles import DATA
from red_cli.recipe.schema import Recipe, resolved
from red_cli.recipe.tasks.instruction import OWN
from red_cli.recipe.yaml_file import dump
from red_cli.runs.consent import is_consent
from red_cli.runs.events import Listener
from red_cli.runs.folder import RunFolder
from red_cli.runs.folder_kind import RECIPE_FILE
from red_cli.runs.opened import OpenedAdapter, open_trained, require_adapter
from red_cli.subprocesses import handling, known_signals

Format = Literal["merged", "adapter", "code"]
Verify = Callable[["Source", Path, Listener], dict[str, Any]]
_NOT_CHECKED: dict[str, Any] = {"examples": 0, "largest_difference": None, "equal_answers": None, "checked_on": None}


@dataclass(frozen=True)
class Source:
    """A trained adapter, and what is known of how it came about.

    Attributes:
        recipe: None for an adapter that comes without one.
        base: name or folder of the model it edits; `revision` on the Hub.
        run: the finished run it belongs to, if that is at hand.
        unfinished: whether the run it belongs to is at hand and has not finished.
    """

    adapter: AdapterArrays
    recipe: Recipe | None
    base: str
    revision: str | None
    run: RunFolder | None
    unfinished: bool


@dataclass(frozen=True)
class Papers:
    """What an export says of where it comes from.

    Attributes:
        recipe: resolved, as it is written; None where there is none.
        base: the name of the base.
        metrics: of the run, if that is at hand.
    """

    recipe: dict[str, Any] | None
    base: str
    metrics: dict[str, Any] | None

    @classmethod
    def of(cls, source: Source, uploaded: bool) -> Papers:
        """Where the export is `uploaded`, without any path of this machine; else it still finds its data and base."""
        recipe = None if source.recipe is None else resolved(source.recipe)
        metrics = None if source.run is None else source.run.read_metrics()
        if uploaded:
            return cls(None if recipe is None else shared_recipe(recipe), shared_name(source.base), metrics)
        return cls(None if recipe is None else exported_recipe(recipe), source.base, metrics)

    def write_recipe(self, folder: Path) -> None:
        """Write the recipe, so that the folder can be scored."""
        if self.recipe is not None:
            write_text(folder / RECIPE_FILE, dump(self.recipe))


def open_source(folder: Path, recipe_name: str | None, base: str | None, overrides: Sequence[str] = ()) -> Source:
    """Find the adapter in `folder`, a run folder or an adapter folder.

    Args:
        base: where the base is, if not where the adapter says.
        overrides: of the recipe, to say where the data of the check are now, and whether code of the base may run.

    Raises:
        UserError: there is no adapter, it is damaged, or an override would change what is trained already.
    """
    if late := [override for override in overrides if not (_sets_data_alone(override) or is_consent(override))]:
        raise UserError(
            "invalid-option",
            f"{one_line(late[0])} has no effect on an export",
            hint="Another place of the base is said with --base FOLDER.",
        )
    opened = open_trained(folder, recipe_name, overrides)
    if opened.adapter is None:
        raise UserError("run-unfinished", f"{folder} is an exported model already, or a base: it has no adapter")
    require_adapter(opened)
    _require_red(folder, opened.adapter)
    adapter = read_vectors(opened.adapter)
    around = [folder, folder.resolve().parent] if isinstance(opened, OpenedAdapter) else [folder]
    run = next((RunFolder(near) for near in around if RunFolder(near).finished), None)
    return Source(
        adapter,
        None if opened.opened_recipe is None else opened.opened_recipe.recipe,
        base or adapter.config.base_model_name_or_path,
        None if base else adapter.config.revision,
        run,
        run is None and any((near / "checkpoints").is_dir() for near in around),
    )


def _sets_data_alone(override: str) -> bool:
    keys = named_keys([override])
    return bool(keys) and all(role_of(named.key) in DATA for named in keys)


def _require_red(folder: Path, adapter: Path) -> None:
    """Refuse what another method trained."""
    if not METHODS[method := trained_method(adapter)].edits:
        peft = "PEFT merges it: PeftModel.from_pretrained(model, folder).merge_and_unload()"
        raise UserError(
            "unsupported-method",
            f"{folder} was trained by method {method}; red export folds RED's edits alone",
            hint=peft if (adapter / CONFIG_FILE).is_file() else None,
        )


def export(
    source: Source,
    output: Path,
    form: Format,
    dtype: str | None,
    verify: Verify | None,
    repository: str | None,
    listener: Listener,
) -> dict[str, Any]:
    """Write the folder `output`, whole or not at all.

    Args:
        dtype: torch's name of the dtype of the weights; None keeps the base's.
        verify: compares what was written with the adapter; None leaves it out.
        repository: USER/NAME on the Hub to upload the folder to.

    Returns:
        "output", "format", "edited_modules", "remarks", what `verify` found, and "pushed_to".

    Raises:
        UserError: `output` is not empty, there is too little space, or the edits do not fit base or architecture.
        RunFailed: the written model differs from the adapter, and nothing is left; or the upload failed.
    """
    if repository is not None:
        require_push_access(repository)
    if source.unfinished:
        listener.note("The run is not finished: this is the best adapter so far.")
    result: dict[str, Any] = {
        "output": str(output), "format": form, "edited_modules": len(source.adapter.edits), "remarks": "",
        **_NOT_CHECKED, "pushed_to": None,
    }  # fmt: skip
    papers = Papers.of(source, uploaded=repository is not None)
    if form == "adapter":
        _write_adapter(source, output, papers)
        if papers.base != source.base:
            listener.note(f"The base is a folder here, {source.base}: whoever loads the adapter needs to have it.")
    else:
        result |= _write_model(source, output, form, dtype, verify, papers, listener)
    if repository is not None:
        listener.status("uploading")
        result["pushed_to"] = push(output, repository)
    return result


def _write_model(
    source: Source,
    output: Path,
    form: Format,
    dtype: str | None,
    verify: Verify | None,
    papers: Papers,
    listener: Listener,
) -> dict[str, Any]:
    listener.status("finding the base")
    base = read_base(source.base, base_folder(source.base, source.revision))
    quantization = source.recipe.model.quantization if source.recipe is not None else None
    if quantization is not None:
        listener.note(f"The run's base was quantised ({quantization}); folding into the unquantised {base.name}.")
    if base.folder.resolve() in (output.resolve(), *output.resolve().parents):
        raise UserError(
            "output-exists", f"{output} lies inside the base's folder, {base.folder}", hint="Choose another."
        )
    require_base(base, source.adapter)
    make = {"merged": merged_model, "code": model_with_code}[form]
    exported = make(base, source.adapter, dtype)
    require_space(output, exported.size)
    with ended_politely(), replacing_folder(output) as folder:
        for file in write_model(exported, folder, listener.writing):
            listener.note(f"Left out {file}: it is a link that leads out of the base's folder.")
        checked = dict(_NOT_CHECKED) if verify is None else verify(source, folder, listener)
        _write_papers(source, exported, folder, output, checked, papers)
    return {**checked, "remarks": exported.remarks}


@contextmanager
def ended_politely() -> Iterator[None]:
    """Let a request to end (SIGTERM, a closed terminal) clean up as Ctrl-C does."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    with handling(known_signals("SIGTERM", "SIGHUP"), interrupt):
        yield


def _write_papers(
    source: Source, exported: Exported, folder: Path, output: Path, checked: dict[str, Any], papers: Papers
) -> None:
    """The recipe, so that the folder can be scored, and the card."""
    papers.write_recipe(folder)
    _write_chat_template(source, exported.base.folder, folder)
    card = merged_card(
        output.resolve().name, source.adapter.config, papers.recipe, papers.metrics, checked, exported.architecture,
        exported.remarks,
        with_code=exported.modelling is not None,
    )  # fmt: skip
    write_text(folder / "README.md", card)


def _write_chat_template(source: Source, base: Path, folder: Path) -> None:
    """The template that the model learnt conversations by, where it is not the base's own, as transformers finds it."""
    recipe = source.recipe
    choice = None if recipe is None else recipe.task.chat_template
    if recipe is not None and choice is not None and choice.template != OWN:
        from red_cli.base_model.prepare import load_tokenizer
        from red_cli.tasks.chat.chat_template import template_text

        tokenizer = load_tokenizer(recipe.model.model_copy(update={"name_or_path": str(base), "revision": None}))
        write_text(folder / "chat_template.jinja", template_text(choice.template, tokenizer))


def _write_adapter(source: Source, output: Path, papers: Papers) -> None:
    """The adapter alone, its base pinned to the commit that is in the cache, where it is from the Hub."""
    config = source.adapter.config
    place = None if Path(source.base).is_dir() else cached_folder(source.base, source.revision)
    commit = None if place is None else commit_of(place)
    config = config.model_copy(update={"base_model_name_or_path": papers.base, "revision": commit or source.revision})
    with replacing_folder(output) as folder:
        shutil.copyfile(source.adapter.folder / WEIGHTS_FILE, folder / WEIGHTS_FILE)
        write_json(folder / CONFIG_FILE, config.model_dump())
        papers.write_recipe(folder)
        write_text(folder / "README.md", adapter_card(output.resolve().name, config, papers.recipe, papers.metrics))
