"""The files of an exported model besides its weights: tokenizer, generation settings, licence and configuration."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from red_cli.base_model.hub import AUXILIARY_FILES
from red_cli.export.shared_recipe import is_absolute
from red_cli.files import leads_outside, read_json, write_json

# Keys of a base's JSON files in which libraries wrote its path
_JSON_KEYS = ("_name_or_path", "name_or_path", "special_tokens_map_file", "tokenizer_file", "vocab_file", "merges_file")
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
    """Rewrite an auxiliary JSON file, such as the tokenizer's configuration, without local paths."""
    content = read_json(file)
    if isinstance(content, dict) and (kept := without_local_paths(content)) != content:
        write_json(file, kept)


def without_local_paths(content: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON content of an auxiliary file of a model, without keys that hold absolute local paths."""
    return {
        key: value
        for key, value in content.items()
        if not (key in _JSON_KEYS and isinstance(value, str) and is_absolute(value))
    }


def name_tokenizer_class(folder: Path) -> None:
    """Record the class of the tokenizer if only the model's type implied it."""
    file = folder / _TOKENIZER_CONFIG
    if (folder / "tokenizer.json").is_file():
        content = read_json(file) if file.is_file() else {}
        if "tokenizer_class" not in content:
            write_json(file, {**content, "tokenizer_class": _PLAIN_TOKENIZER})
