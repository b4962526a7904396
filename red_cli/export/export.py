"""Export a trained adapter: as merged weights, as a model with its own code, or as an adapter to share."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from red_cli.base_model.base_files import read_base
from red_cli.base_model.gguf_files import is_gguf
from red_cli.base_model.hub import base_folder, cached_folder, commit_of, push_to_hub, require_hub_access
from red_cli.edit.adapter_config import CONFIG_FILE, WEIGHTS_FILE
from red_cli.errors import UserError, one_line
from red_cli.export.adapter_arrays import AdapterArrays, read_vectors
from red_cli.export.card import Use, adapter_card, merged_card
from red_cli.export.checks import require_base, require_space
from red_cli.export.ends import write_ends
from red_cli.export.exported_model import (
    Exported,
    exported_as_llama,
    exported_merged,
    exported_with_code,
    write_exported,
)
from red_cli.export.gguf_model import GGUF_NAME, WrittenGguf, require_gguf, write_gguf
from red_cli.export.python_use import Input, gguf_use, model_use
from red_cli.export.servers import Target, require_served, require_served_form
from red_cli.export.shared_recipe import exported_recipe, shared_name, shared_recipe
from red_cli.export.transformers_classes import auto_class
from red_cli.files import replacing, replacing_folder, write_json, write_text
from red_cli.methods.trained_description import trained_method
from red_cli.recipe.keys_by_role import role_of
from red_cli.recipe.methods import METHODS
from red_cli.recipe.overrides import named_keys
from red_cli.recipe.roles import DATA
from red_cli.recipe.schema import Recipe, resolved
from red_cli.recipe.template import OWN
from red_cli.recipe.yaml_file import dump
from red_cli.runs.consent import is_consent
from red_cli.runs.events import Listener
from red_cli.runs.folder import RunFolder
from red_cli.runs.folder_kind import RECIPE_FILE
from red_cli.runs.open_trained import OpenedAdapter, open_trained, require_adapter
from red_cli.signals import sigterm_as_interrupt

Format = Literal["merged", "adapter", "code", "gguf"]
Verify = Callable[["Source", Path, Listener], dict[str, Any]]
_NOT_CHECKED: dict[str, Any] = {
    "examples": 0, "largest_difference": None, "equal_answers": None, "checked_on": None, "answer": None,
}  # fmt: skip


@dataclass(frozen=True)
class Source:
    """A trained adapter, its base, and the recipe and run it comes from.

    Attributes:
        recipe: None if the adapter has none.
        base: name or folder of the base model; `revision` is its revision on the Hub.
        run: the finished run it belongs to, if available.
        unfinished: whether its run is available and has not finished.
    """

    adapter: AdapterArrays
    recipe: Recipe | None
    base: str
    revision: str | None
    run: RunFolder | None
    unfinished: bool


@dataclass(frozen=True)
class Provenance:
    """What `red export` records about the origin of a model.

    Attributes:
        recipe: the resolved recipe as it is written, or None.
        base: the name of the base.
        metrics: the run's metrics, if available.
    """

    recipe: dict[str, Any] | None
    base: str
    metrics: dict[str, Any] | None

    @classmethod
    def of(cls, source: Source, uploaded: bool) -> Provenance:
        """The origin of `source`: without local paths if `uploaded`, else with those of its data and base."""
        recipe = None if source.recipe is None else resolved(source.recipe)
        metrics = None if source.run is None else source.run.read_metrics()
        if uploaded:
            return cls(None if recipe is None else shared_recipe(recipe), shared_name(source.base), metrics)
        return cls(None if recipe is None else exported_recipe(recipe), source.base, metrics)

    def write_recipe(self, folder: Path) -> None:
        """Write the recipe, which `red eval` needs."""
        if self.recipe is not None:
            write_text(folder / RECIPE_FILE, dump(self.recipe))


def open_source(folder: Path, recipe_name: str | None, base: str | None, overrides: Sequence[str] = ()) -> Source:
    """Read the adapter in `folder`, a run folder or an adapter folder.

    Args:
        base: the base's name or folder; None takes the one that the adapter records.
        overrides: recipe keys for the place of the check's data, and model.trust_remote_code.

    Raises:
        UserError: there is no adapter, it is damaged, or an override would change what is already trained.
    """
    if late := [override for override in overrides if not (_sets_data_alone(override) or is_consent(override))]:
        raise UserError(
            "invalid-option",
            f"{one_line(late[0])} has no effect on an export",
            hint="To give another folder of the base: --base FOLDER",
        )
    opened = open_trained(folder, recipe_name, overrides)
    if opened.adapter is None:
        raise UserError("not-a-run", f"{folder} has no adapter: it is an exported model or a base")
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
    """Whether an override given to the export of an adapter sets only keys about the data."""
    keys = named_keys([override])
    return bool(keys) and all(role_of(named.key) in DATA for named in keys)


def _require_red(folder: Path, adapter: Path) -> None:
    """Check that an adapter to export is RED's; those of other methods are refused."""
    if not METHODS[method := trained_method(adapter)].edits:
        peft = "PEFT merges it: PeftModel.from_pretrained(model, folder).merge_and_unload()"
        raise UserError(
            "unsupported-method",
            f"{folder} was trained by method {method}; red export folds only RED's edits",
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
    target: Target | None = None,
) -> dict[str, Any]:
    """Write the folder `output`, or the file OUT.gguf, atomically.

    Args:
        dtype: torch's name of the weights' dtype; None keeps the base's.
        verify: compares the written model with the adapter; None skips this.
        repository: USER/NAME on the Hub to upload the folder to.
        target: what will run the model, and so must read all of its biases; None: any.

    Returns:
        "output", "format", "edited_modules", "remarks", "ends" and "ends_text" (of `write_ends`), the result of
        `verify`, "pushed_to", "gguf" (of `WrittenGguf`), and "dtype", that of the folded weights.

    Raises:
        UserError: `output` is not empty or not of this form, there is too little space, the edits do not fit the
            base or architecture, or the target would compute something else.
        RunFailed: the written model differs from the adapter, and is deleted; or the upload failed.
    """
    if is_gguf(output.name):
        _require_file_alone(output, form, repository)
    if target is not None:
        require_served_form(target, form)
    if repository is not None:
        require_hub_access(repository)
    if source.unfinished:
        listener.note("The run is not finished: this is its best adapter so far.")
    result: dict[str, Any] = {
        "output": str(output), "format": form, "edited_modules": len(source.adapter.edits), "remarks": "",
        "ends": None, "ends_text": "", **_NOT_CHECKED, "pushed_to": None, "gguf": None, "dtype": None,
    }  # fmt: skip
    origin = Provenance.of(source, uploaded=repository is not None)
    if form == "adapter":
        _write_adapter(source, output, origin)
        if origin.base != source.base:
            listener.note(f"The base is a local folder, {source.base}: users of the adapter need it as well.")
    else:
        result |= _write_model(source, output, form, dtype, verify, origin, listener, target)
    if repository is not None:
        listener.status("uploading")
        result["pushed_to"] = push_to_hub(output, repository)
    return result


def _require_file_alone(output: Path, form: Format, repository: str | None) -> None:
    """Check that the export to OUT.gguf is that one file, and a new one."""
    if form != "gguf":
        raise UserError("invalid-option", f"{output} is the name of a GGUF file", hint="Add --format gguf.")
    if repository is not None:
        folder = output.with_suffix("")
        raise UserError("invalid-option", "--push-to-hub uploads a folder", hint=f"Give a folder: --output {folder}")
    if output.exists():
        raise UserError("output-exists", f"{output} exists", hint="Choose another name, or delete this file first.")


def _write_model(
    source: Source,
    output: Path,
    form: Format,
    dtype: str | None,
    verify: Verify | None,
    origin: Provenance,
    listener: Listener,
    target: Target | None,
) -> dict[str, Any]:
    """Write a trained adapter as merged weights or as a model with its own code, and verify it if asked for."""
    listener.status("finding the base")
    base = read_base(source.base, base_folder(source.base, source.revision))
    quantization = source.recipe.model.quantization if source.recipe is not None else None
    if quantization is not None:
        listener.note(f"The run's base was quantised ({quantization}); folding into the unquantised {base.name}.")
    if base.folder.resolve() in (output.resolve(), *output.resolve().parents):
        raise UserError("output-exists", f"{output} is inside the base's folder, {base.folder}", hint="Choose another.")
    require_base(base, source.adapter)
    make = {"merged": exported_merged, "code": exported_with_code, "gguf": exported_as_llama}[form]
    exported = make(base, source.adapter, dtype)
    if target is not None:
        require_served(target, exported)
    if form == "gguf":
        require_gguf(exported.architecture, exported.config, base.folder)
    require_space(output, exported.size * (2 if form == "gguf" else 1))  # a GGUF file is made from merged weights
    with sigterm_as_interrupt(), _writing(output) as folder:
        merged = folder / "merged" if form == "gguf" else folder
        merged.mkdir(exist_ok=True)
        for file in write_exported(exported, merged, listener.writing):
            listener.note(f"Left out {file}: it is a link that leads out of the base's folder.")
        _write_chat_template(source, base.folder, merged)
        ends = write_ends(merged, exported.config, source.recipe, source.adapter.config, base)
        checked = dict(_NOT_CHECKED) if verify is None else verify(source, merged, listener)
        written: WrittenGguf | None = None
        if form == "gguf":
            listener.status("writing the GGUF file")
            written = write_gguf(merged, folder / GGUF_NAME, f"{Path(base.name).name} {output.resolve().stem}")
            shutil.rmtree(merged)
        _write_metadata(source, exported, folder, output, checked, origin)
    return {
        **checked,
        "remarks": exported.remarks,
        "ends": ends.ids,
        "ends_text": ends.text,
        "gguf": None if written is None else asdict(written),
        "dtype": exported.dtype,
    }


@contextmanager
def _writing(output: Path) -> Iterator[Path]:
    """Yield the folder to write an export to; of a temporary one for OUT.gguf, only the GGUF file is kept."""
    if not is_gguf(output.name):
        with replacing_folder(output) as folder:
            yield folder
        return
    with replacing(output) as file, tempfile.TemporaryDirectory(prefix=f".{output.name}.", dir=output.parent) as folder:
        yield Path(folder)
        (Path(folder) / GGUF_NAME).replace(file)


def _write_metadata(
    source: Source, exported: Exported, folder: Path, output: Path, checked: dict[str, Any], origin: Provenance
) -> None:
    """Write the recipe and the card."""
    origin.write_recipe(folder)
    card = merged_card(
        output.resolve().name, source.adapter.config, origin.recipe, origin.metrics, checked, exported.remarks,
        with_code=exported.modelling is not None,
        use=_use(source, exported, folder, output.resolve().name),
    )  # fmt: skip
    write_text(folder / "README.md", card)


def _use(source: Source, exported: Exported, folder: Path, name: str) -> Use:
    """The use of an export under its later name: shell commands for a GGUF file, else Python code."""
    if (folder / GGUF_NAME).is_file():
        return Use(commands=gguf_use(f"{name}/{GGUF_NAME}"))
    loader = auto_class(exported.architecture)
    return Use(python=model_use(name, loader, Input.of(source.recipe), exported.modelling is not None))


def _write_chat_template(source: Source, base: Path, folder: Path) -> None:
    """Export the chat template that the adapter was trained with, unless it is the base's own."""
    recipe = source.recipe
    choice = None if recipe is None else recipe.task.chat_template
    if recipe is not None and choice is not None and choice.template != OWN:
        from red_cli.base_model.load import load_tokenizer
        from red_cli.tasks.chat.choose_template import template_text

        tokenizer = load_tokenizer(recipe.model.model_copy(update={"name_or_path": str(base), "revision": None}))
        write_text(folder / "chat_template.jinja", template_text(choice.template, tokenizer))


def _write_adapter(source: Source, output: Path, origin: Provenance) -> None:
    """Export the adapter alone. A base from the Hub is pinned to the cached commit."""
    config = source.adapter.config
    cached = None if Path(source.base).is_dir() else cached_folder(source.base, source.revision)
    commit = None if cached is None else commit_of(cached)
    config = config.model_copy(update={"base_model_name_or_path": origin.base, "revision": commit or source.revision})
    with replacing_folder(output) as folder:
        shutil.copyfile(source.adapter.folder / WEIGHTS_FILE, folder / WEIGHTS_FILE)
        write_json(folder / CONFIG_FILE, config.model_dump())
        origin.write_recipe(folder)
        card = adapter_card(output.resolve().name, config, origin.recipe, origin.metrics, Input.of(source.recipe))
        write_text(folder / "README.md", card)
