"""The files of an exported model besides its weights: tokenizer, generation settings, licence and configuration."""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import Any

from red_cli.base_model.files import BaseFiles
from red_cli.base_model.hub import AUXILIARY_FILES
from red_cli.edit.adapter_config import AdapterConfig
from red_cli.export.local_paths import without_local_paths
from red_cli.files import leads_outside, read_json, write_json

_CONFIG_END = "_config.json"
_TOKENIZER_CONFIG = "tokenizer_config.json"
# The class that reads tokenizer.json as it is, for models whose type no longer implies the class of the tokenizer.
_PLAIN_TOKENIZER = "PreTrainedTokenizerFast"


def copy_auxiliary_files(base: Path, folder: Path) -> list[Path]:
    """Copy the base's auxiliary files unchanged, except that keys with local paths are removed.

    Returns:
        The files left out: links that lead out of the base's folder.
    """
    found = [file for pattern in AUXILIARY_FILES for file in sorted(base.glob(pattern)) if file.is_file()]
    outside = [file for file in found if leads_outside(base, file)]
    for file in found:
        if file not in outside:
            target = folder / file.relative_to(base)
            target.parent.mkdir(exist_ok=True)
            shutil.copyfile(file, target)
            if file.name.endswith(_CONFIG_END):
                _drop_local_paths(target)
    return outside


def _drop_local_paths(file: Path) -> None:
    content = read_json(file)
    if isinstance(content, dict) and (kept := without_local_paths(content)) != content:
        write_json(file, kept)


def name_tokenizer_class(folder: Path) -> None:
    """Record the class of the tokenizer if only the model's type implied it."""
    file = folder / _TOKENIZER_CONFIG
    if (folder / "tokenizer.json").is_file():
        content = read_json(file) if file.is_file() else {}
        if "tokenizer_class" not in content:
            write_json(file, {**content, "tokenizer_class": _PLAIN_TOKENIZER})


def exported_config(base: BaseFiles, adapter: AdapterConfig, dtype: str | None) -> dict[str, Any]:
    """The base's configuration with the class, the labels and the dtype of the exported model.

    Args:
        dtype: torch's name of the dtype, if it was changed.
    """
    config = {key: value for key, value in without_local_paths(base.config).items() if key != "auto_map"}
    names = adapter.label_names
    if names is not None:
        config["id2label"] = {str(index): name for index, name in enumerate(names)}
        config["label2id"] = {name: index for index, name in enumerate(names)}
    if adapter.head:
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
    """The padding id used in training; the configuration's if the tokenizer cannot be loaded."""
    from transformers import AutoTokenizer

    from red_cli.base_model.prepare import usable_padding_id

    own: int | None = base.config.get("pad_token_id")
    try:
        tokenizer = AutoTokenizer.from_pretrained(base.folder, trust_remote_code=False)
    except Exception:  # missing or damaged; the libraries raise many kinds of error
        return own
    return usable_padding_id(tokenizer, base.config.get("vocab_size", math.inf))
