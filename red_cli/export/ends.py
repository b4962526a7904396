"""The tokens that end and pad a text, written where the readers of an exported model look for them.

transformers, vLLM, SGLang and TGI stop at `eos_token_id` of generation_config.json. llama.cpp's converter takes the one
`eos_token` of tokenizer_config.json. Batches are padded with the tokenizer's `pad_token`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from red_cli.edit.adapter_config import AdapterConfig
from red_cli.errors import UserError
from red_cli.files import read_json, write_json
from red_cli.recipe.schema import Recipe

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from red_cli.base_model.base_files import BaseFiles
    from red_cli.tasks.special_ids import SpecialIds

GENERATION_CONFIG = "generation_config.json"
_TOKENIZER_CONFIG, _OLDER_SPECIAL_TOKENS = "tokenizer_config.json", "special_tokens_map.json"
_WRITES_TEXT = ("CAUSAL_LM", "SEQ_2_SEQ_LM")  # task types of adapters
_PROBE = "a b"


@dataclass(frozen=True)
class Ends:
    """Where an exported model stops.

    Attributes:
        ids: the base's own ends, and last the one that the run trained; None if the files are the base's.
        text: what changed, or why nothing did; empty if there is nothing to say.
    """

    ids: list[int] | None
    text: str


def write_ends(
    folder: Path, config: dict[str, Any], recipe: Recipe | None, adapter: AdapterConfig, base: BaseFiles
) -> Ends:
    """Write the tokens that end and pad a text of the run to an exported model's files.

    Args:
        config: the content of its config.json.
        recipe: the run's; None if it is not known.
    """
    if adapter.classifies:
        padding = config["pad_token_id"]
        return Ends(None, "" if padding is None else _write_padding(folder, padding))
    if adapter.task_type not in _WRITES_TEXT:
        return Ends(None, "")
    if recipe is None:
        return Ends(None, "the base's: the adapter has no recipe, so the token that ends an answer is not known")
    from red_cli.export.trained_task import trained_task

    try:
        task = trained_task(recipe, adapter, base)
        special_ids = task.special_ids
    except UserError as error:
        return Ends(None, f"the base's: the token that ends an answer is not known: {error}")
    if special_ids is None:
        return Ends(None, "")
    found = _write_end(folder, config, special_ids, task.task.kind.encoder_decoder)
    padding_text = _write_padding(folder, special_ids.padding)
    return Ends(found.ids, "; ".join(text for text in (found.text, padding_text) if text))


def _write_end(folder: Path, config: dict[str, Any], special_ids: SpecialIds, encoder_decoder: bool) -> Ends:
    """Write the end that a run trained, after all others of the base."""
    file = folder / GENERATION_CONFIG
    generation = read_json(file) if file.is_file() else _generation_of(config)
    own = _ids(generation.get("eos_token_id")) or _ids(config.get("eos_token_id"))
    ids = [*dict.fromkeys(end for end in own if end != special_ids.end), special_ids.end]
    changes: dict[str, Any] = {"eos_token_id": ids if len(ids) > 1 else ids[0]}
    if special_ids.decoder_start is not None:
        changes["decoder_start_token_id"] = special_ids.decoder_start
    if any(generation.get(key) != value for key, value in changes.items()):
        if generation.get("pad_token_id") is None:
            changes["pad_token_id"] = special_ids.padding
        # With this mark, earlier versions of transformers take the ends of config.json instead
        kept = {key: value for key, value in generation.items() if key != "_from_model_config"}
        write_json(file, {**kept, **changes})
    tokenizer = _tokenizer(folder)
    end = str(special_ids.end)
    if tokenizer is not None:
        end = str(tokenizer.convert_ids_to_tokens(special_ids.end))
        if tokenizer.eos_token_id != special_ids.end and not encoder_decoder:
            _name_special_token(folder, tokenizer, "eos_token", special_ids.end)
    if ids == own:
        return Ends(ids, "")
    others = "the base's own ends stay" if own else "the base has no end of its own"
    return Ends(ids, f"answers end at {end}, as the run trained them; {others}: eos_token_id {changes['eos_token_id']}")


def end_ids(folder: Path) -> list[int]:
    """The tokens at which the model in `folder` stops, the trained one last; empty if its files name none."""
    found: list[int] = []
    for name in (GENERATION_CONFIG, "config.json"):
        file = folder / name
        found = found or (_ids(read_json(file).get("eos_token_id")) if file.is_file() else [])
    return found


def _write_padding(folder: Path, padding: int) -> str:
    """Give the tokenizer the padding token of the training; returns why that is impossible, or an empty text."""
    tokenizer = _tokenizer(folder)
    if tokenizer is None or tokenizer.pad_token_id == padding:
        return ""
    if _name_special_token(folder, tokenizer, "pad_token", padding):
        return ""
    return f"the tokenizer has no padding token: the run padded with id {padding}, which is no special token"


def _generation_of(config: dict[str, Any]) -> dict[str, Any]:
    """What transformers makes of a configuration where there is no generation_config.json."""
    from transformers import GenerationConfig

    from red_cli.export.transformers_classes import build_configuration

    found: dict[str, Any] = GenerationConfig.from_model_config(build_configuration(config)).to_diff_dict()
    return found


def _ids(value: Any) -> list[int]:
    """The end tokens of a configuration's eos_token_id, which is a number, a list or None."""
    values = value if isinstance(value, list) else [value]
    return [token for token in values if isinstance(token, int)]


def _tokenizer(folder: Path) -> PreTrainedTokenizerBase | None:
    """The tokenizer in a folder; None if there is none that plain transformers loads."""
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except Exception:  # missing or damaged; the libraries raise many kinds of error
        return None


def _name_special_token(folder: Path, tokenizer: PreTrainedTokenizerBase, key: str, token_id: int) -> bool:
    """Set `key` (eos_token, pad_token) of a tokenizer's files to a token; whether that was possible.

    The files stay as they are if the token is not a special one, if a chat template writes the key's token, or if
    texts would have other tokens afterwards.
    """
    token = tokenizer.convert_ids_to_tokens(token_id)
    known = {*tokenizer.all_special_ids, *(id for id, added in tokenizer.added_tokens_decoder.items() if added.special)}
    if token is None or token_id not in known or key in json.dumps(tokenizer.chat_template):
        return False
    files = [folder / name for name in (_TOKENIZER_CONFIG, _OLDER_SPECIAL_TOKENS)]
    before = {file: file.read_bytes() if file.is_file() else None for file in files}
    for file, content in before.items():
        values = {} if content is None else read_json(file)
        if file.name == _TOKENIZER_CONFIG or key in values:
            write_json(file, {**values, key: token})
    changed = _tokenizer(folder)
    same = changed is not None and (
        getattr(changed, f"{key}_id") == token_id and changed(_PROBE)["input_ids"] == tokenizer(_PROBE)["input_ids"]
    )
    if not same:
        for file, content in before.items():
            if content is None:
                file.unlink(missing_ok=True)
            else:
                file.write_bytes(content)
    return same
