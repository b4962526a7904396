"""Fit an adapter's configuration to the model under a PEFT model, and check a saved adapter against it."""

from __future__ import annotations

import warnings
from pathlib import Path

from transformers import PreTrainedModel

from red_cli.base_model.digest import require_same_digest
from red_cli.edit.adapter_config import CONFIG_FILE, KEY_PREFIX, WEIGHTS_FILE, AdapterConfig, require_same_modules
from red_cli.edit.model_kinds import HEAD_TASK_TYPES
from red_cli.edit.recorded_base import require_same_identity
from red_cli.edit.targets import find_targets, resolve_positions
from red_cli.edit.tensor_file import read_tensors
from red_cli.edit.trained_head import parameters_to_train
from red_cli.errors import UserError
from red_cli.formatting import some_of
from red_cli.peft.base import Attached, Base
from red_cli.peft.config import RedConfig

_NAMED_BY_PEFT = ("classifier", "score", "qa_outputs")  # its classes name them all, whichever the model has


def fit(config: RedConfig, model: PreTrainedModel, base: Base) -> None:
    """Fit an adapter's configuration to a model: find the modules to edit, and those that train in full.

    Raises:
        UserError: no module matches; a module to train does not exist, is quantised, edited, or shares its weight; or
            the adapter was saved for another base, or its files are damaged.
    """
    config.attached = None
    edit = resolve_positions(config.edit, base.identity.model_type)
    targets = [target for target in find_targets(model, edit) if target.path in base.modules]
    attached = Attached(base, edit, targets)
    trained = _modules_to_save(config, base)
    _require_trainable(trained, attached, model)
    if config.record is not None:
        _require_same(config.record, config.folder, attached, model)
    elif random := [name for name in base.new_head if name in base.random and name.rpartition(".")[0] not in trained]:
        warnings.warn(
            f"{some_of(random)}: not in the base's files, and neither trained nor saved; "
            "whoever loads the adapter gets others at random",
            stacklevel=2,
        )
    config.attached, config.modules_to_save = attached, trained or None


def _modules_to_save(config: RedConfig, base: Base) -> list[str]:
    """The paths of the modules that train in full: the smallest, so that each row of a batch can have its own."""
    if config.record is not None:
        owners = list(dict.fromkeys(name.rpartition(".")[0] for name in config.record.head))
        partly = [name for name in base.shapes if name.rpartition(".")[0] in owners and name not in config.record.head]
        if partly:
            raise UserError(
                "unsupported-method",
                f"PEFT trains modules in full, and this adapter leaves out {some_of(partly)}",
                hint="Load it without PEFT: red_cli.load(FOLDER).",
            )
        return owners
    wanted = config.modules_to_save or []
    if unknown := [name for name in wanted if name not in _NAMED_BY_PEFT and not any(base.parts([name]))]:
        raise UserError(
            "unknown-name",
            f"modules_to_save: the model has no module {some_of(unknown)}",
            hint="Give ends of paths of the base's modules, such as lm_head.",
        )
    owners = list(base.parts(wanted))
    if getattr(config.task_type, "value", config.task_type) in HEAD_TASK_TYPES.values():
        owners += [name.rpartition(".")[0] for name in base.new_head]
    return list(dict.fromkeys(owners))


def _require_trainable(trained: list[str], attached: Attached, model: PreTrainedModel) -> None:
    """Check the modules that train in full; raises what `fit` raises."""
    names = [name for name in attached.base.shapes if name.rpartition(".")[0] in trained]
    if edited := [path for path in attached.paths if path in trained]:
        raise UserError(
            "unsupported-model",
            f"{some_of(edited)}: a module is either edited or trained in full",
            hint="Leave it out of modules_to_save, or out of the edits (target_modules, layers).",
        )
    if shared := [name for name in names if name in attached.base.shared]:
        raise UserError(
            "unsupported-model",
            f"{some_of(shared)}: PEFT would train a copy, and the modules that share the weight would keep the base's",
            hint="Leave it out of modules_to_save, or load the base with tie_word_embeddings=False.",
        )
    present = {name for name, _ in model.named_parameters()}
    parameters_to_train(model, [name for name in names if name in present])


def _require_same(record: AdapterConfig, folder: Path | None, attached: Attached, model: PreTrainedModel) -> None:
    """Check that a saved adapter belongs to this base and that its file is whole; raises what `fit` raises."""
    where, base = folder or Path(CONFIG_FILE), attached.base
    require_same_identity(base.identity, base.shapes, record, where)
    require_same_modules(attached.paths, record, where)
    labels = len(record.label_names or ())
    if record.classifies and labels != model.config.num_labels:
        raise UserError(
            "labels-mismatch",
            f"{where} has a head for {labels} labels, and the model one for {model.config.num_labels}",
            hint=f"Load the base with num_labels={labels}.",
        )
    if model.config._name_or_path:
        require_same_digest(
            model.config._name_or_path, getattr(model.config, "_commit_hash", None), record.base_digest, where,
            "Load the unchanged base: from_pretrained(FOLDER), or with its revision.",
        )  # fmt: skip
    if folder is not None and folder.is_dir():
        expected = attached.forms()
        expected |= {KEY_PREFIX + name: (base.shapes[name], "float32") for name in record.head}
        read_tensors(folder / WEIGHTS_FILE, expected, record.weights_sha256, CONFIG_FILE, "pt")
