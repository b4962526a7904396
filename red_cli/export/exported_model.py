"""Write an exported model: a folder with weights, configuration and auxiliary files that transformers loads."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from red_cli.base_model.base_files import BaseFiles
from red_cli.base_model.digest import tokenizer_digest
from red_cli.base_model.edited_modules import EditedModules, find_edited_modules
from red_cli.base_model.stored_tensor import SAFETENSORS_NAMES, TORCH_NAMES
from red_cli.edit.adapter_config import AdapterConfig
from red_cli.edit.architectures import architecture_of
from red_cli.export.adapter_arrays import AdapterArrays, Edit
from red_cli.export.auxiliary_files import copy_auxiliary_files, name_tokenizer_class, without_local_paths
from red_cli.export.bias_placement import BiasPlacement, llama_config, place_biases, place_in_llama
from red_cli.export.folded_tensors import Shards, add_tensors, keep_known, main_dtype, named_for_loading, plan_tensors
from red_cli.export.modelling_file import MODELLING_FILE, bias_names, code_config, modelling_file
from red_cli.export.stream import Progress, write_shards
from red_cli.export.transformers_classes import build_configuration, exported_class, model_class
from red_cli.files import write_json, write_text

Place = Callable[[str, dict[str, Any], list[str]], BiasPlacement]


@dataclass(frozen=True)
class Exported:
    """A model ready to be written.

    Attributes:
        architecture: the class of the model in transformers.
        remarks: changes other than folding, for the model card; may be empty.
        modelling: the text of its modelling file, or None.
    """

    base: BaseFiles
    shards: Shards
    config: dict[str, Any]
    architecture: str
    remarks: str = ""
    modelling: str | None = None

    @property
    def dtype(self) -> str:
        """torch's name of the dtype that most of its weights have."""
        sizes: Counter[str] = Counter()
        for outputs in self.shards.values():
            for output in outputs:
                sizes[output.dtype] += output.size
        found = sizes.most_common(1)[0][0]
        return TORCH_NAMES.get(found, found)

    @property
    def size(self) -> int:
        """The size of its weights in bytes."""
        return sum(output.size for outputs in self.shards.values() for output in outputs)


def exported_merged(base: BaseFiles, adapter: AdapterArrays, dtype: str | None) -> Exported:
    """The exported model with edits folded into its weights, ready to be written.

    Args:
        dtype: torch's name of the dtype to write; None keeps the base's.

    Raises:
        UserError: the adapter does not fit the base, or a bias has no place in this architecture.
    """
    return _merged(base, adapter, dtype, place_biases)


def exported_as_llama(base: BaseFiles, adapter: AdapterArrays, dtype: str | None) -> Exported:
    """The exported model as a LLaMA, ready to be written, with edits of any kind folded into its weights.

    A context longer than a sliding window is cut to the window: up to there, both compute the same.

    Raises:
        UserError: the adapter does not fit the base, or no LLaMA computes the same.
    """
    exported = _merged(as_long_as_window(base), adapter, dtype, place_in_llama)
    window, longest = (files.config.get("max_position_embeddings") for files in (exported.base, base))
    if window == longest:
        return exported
    remarks = f"{exported.remarks} Its context ends at {window} tokens, where the sliding window would begin to act."
    return replace(exported, remarks=remarks.strip())


def as_long_as_window(base: BaseFiles) -> BaseFiles:
    """The base for an exported model, with its context cut to its sliding window, if it has one."""
    window, longest = base.config.get("sliding_window"), base.config.get("max_position_embeddings")
    if not isinstance(window, int) or not isinstance(longest, int) or window >= longest:
        return base
    if base.config.get("use_sliding_window") is False or architecture_of(base.model_type).as_llama is None:
        return base
    return replace(base, config={**base.config, "max_position_embeddings": window})


def _merged(base: BaseFiles, adapter: AdapterArrays, dtype: str | None, place: Place) -> Exported:
    """Plan an exported model with folded edits; `place` finds where biases are stored that the base has not."""
    edited = find_edited_modules(base, adapter.edits)
    new_biases = [path for path in edited.without_bias if adapter.edits[path].bias is not None]
    placement = place(base.model_type, base.config, new_biases)
    config = exported_config(base, adapter.config, dtype)
    architecture = exported_class(base, adapter)
    shards = _shards(base, adapter, edited, placement, dtype)
    if placement.as_llama:
        config = llama_config(config, placement)
        architecture = config["architectures"][0]
    else:
        config |= dict.fromkeys(placement.switches, True)
    shards = _of_its_class(shards, adapter, config, architecture)
    return Exported(base, shards, config, architecture, placement.description)


def exported_with_code(base: BaseFiles, adapter: AdapterArrays, dtype: str | None) -> Exported:
    """The exported model with folded scales, and with its biases in its own modelling file; ready to be written.

    Raises:
        UserError: the adapter does not fit the base, or the base's class is not one of transformers.
    """
    edited = find_edited_modules(base, adapter.edits)
    architecture = exported_class(base, adapter)
    model_class(architecture)
    names = {path: name for path, name in bias_names(base, edited).items() if adapter.edits[path].bias is not None}
    added = {f"{path}.{name}": adapter.edits[path].bias for path, name in names.items()}
    biases = {key: bias for key, bias in added.items() if bias is not None}
    present = {path: edit for path, edit in adapter.edits.items() if path not in names}
    scales = {path: Edit(adapter.edits[path].scale, None) for path in names}
    folded = AdapterArrays(adapter.folder, adapter.config, present | scales, adapter.head)
    shards = _shards(base, folded, edited, BiasPlacement(), dtype)
    config = exported_config(base, adapter.config, dtype)
    shards = _of_its_class(shards, adapter, config, architecture)
    stored = SAFETENSORS_NAMES[dtype] if dtype else main_dtype(base, edited)
    shards = add_tensors(shards, biases, stored)
    config = code_config(
        config, architecture, {path: (name, len(biases[f"{path}.{name}"])) for path, name in names.items()}
    )
    remarks = f"Its own `{MODELLING_FILE}` adds {len(names)} biases that a {base.model_type} model has no place for."
    return Exported(base, shards, config, architecture, remarks, modelling_file(architecture))


def write_exported(exported: Exported, folder: Path, progress: Progress) -> list[Path]:
    """Write all files of an exported model. config.json is last, so that a folder with only some weights is no model.

    Returns:
        The files of the base that `copy_auxiliary_files` left out.
    """
    write_shards(exported.shards, folder, progress)
    left_out = copy_auxiliary_files(exported.base.folder, folder)
    if exported.config["model_type"] != exported.base.model_type:
        name_tokenizer_class(folder)
    if exported.modelling is not None:
        write_text(folder / MODELLING_FILE, exported.modelling)
    write_json(folder / "config.json", exported.config)
    return left_out


def _shards(
    base: BaseFiles, adapter: AdapterArrays, edited: EditedModules, placement: BiasPlacement, dtype: str | None
) -> Shards:
    """Plan the weight files of an exported model: the tensors of the base with folded edits, and the head."""
    conv1d = architecture_of(base.model_type).conv1d
    stored = SAFETENSORS_NAMES[dtype] if dtype else None
    shards = plan_tensors(base, adapter, edited, placement, conv1d, stored)
    if adapter.head:
        shards = add_tensors(shards, adapter.head, stored or main_dtype(base, edited))
    return named_for_loading(shards)


def _of_its_class(shards: Shards, adapter: AdapterArrays, config: dict[str, Any], architecture: str) -> Shards:
    """Remove tensors that the exported model's class does not have, such as a language-model head."""
    if not adapter.head or architecture_of(config["model_type"]).in_files:  # the names in the files differ
        return shards
    import torch

    kind = model_class(architecture)
    with torch.device("meta"):
        model = kind(build_configuration(config))
    return named_for_loading(keep_known(shards, set(model.state_dict())))


def exported_config(base: BaseFiles, adapter: AdapterConfig, dtype: str | None) -> dict[str, Any]:
    """The exported model's configuration: the base's, with the architecture, label names and dtype.

    Args:
        dtype: torch's name of the dtype, if it was changed.
    """
    config = {key: value for key, value in without_local_paths(base.config).items() if key != "auto_map"}
    names = adapter.label_names
    if names is not None:
        config["id2label"] = {str(index): name for index, name in enumerate(names)}
        config["label2id"] = {name: index for index, name in enumerate(names)}
    if adapter.classifies:
        one = names is not None and len(names) == 1
        config["problem_type"] = "regression" if one else "single_label_classification"
        config["pad_token_id"] = _padding(base)  # a decoder's head reads the last token before padding
    if adapter.architecture is not None:
        config["architectures"] = [adapter.architecture]
    if dtype is not None:
        config.pop("torch_dtype", None)  # the key's name before transformers 5
        config["dtype"] = dtype
    return config


def _padding(base: BaseFiles) -> int | None:
    """The padding id for the exported model's configuration; the base's own if the tokenizer cannot be loaded."""
    from transformers import AutoTokenizer

    from red_cli.base_model.prepare import usable_padding_id

    own: int | None = base.config.get("pad_token_id")
    if tokenizer_digest(base.folder) is None:  # transformers makes an empty one for some model types
        return own
    try:
        tokenizer = AutoTokenizer.from_pretrained(base.folder, trust_remote_code=False)
    except Exception:  # missing or damaged; the libraries raise many kinds of error
        return own
    return usable_padding_id(tokenizer, base.config.get("vocab_size", math.inf))
