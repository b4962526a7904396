"""The configuration of RED in PEFT, and its file `adapter_config.json`, which is that of every adapter of RED."""

from __future__ import annotations

import hashlib
import importlib.metadata
import re
from collections.abc import Collection
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
import transformers
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import EntryNotFoundError
from peft import PeftConfig
from pydantic import ValidationError
from safetensors.torch import load_file, save

from red_cli.edit import config as edit_config
from red_cli.edit.adapter_config import CONFIG_FILE, KEY_PREFIX, WEIGHTS_FILE, AdapterConfig
from red_cli.edit.model_kinds import NO_TASK
from red_cli.errors import UserError
from red_cli.files import write_bytes, write_json
from red_cli.peft.base import Attached
from red_cli.peft.registration import red_type

# What only the file of a saved adapter holds
_RECORD = (
    "red", "architecture", "head", "label_names", "base", "base_digest", "weights_sha256", "library_versions"
)  # fmt: skip


@dataclass
class RedConfig(PeftConfig):
    """Which modules are edited, by which vectors, and what trains besides: `red_cli.RedConfig` for PEFT.

    Args:
        positions: outputs to edit in each layer, "red++" or a list of ffn, attn, query, key, value, qkv, ffn_norm,
            attn_norm.
        components: "scale", "bias" or both.
        layers: "all", a range such as "8:" or "2:6", or a list of numbers from 0.
        target_modules: a regular expression that matches full module paths, instead of positions; or, as elsewhere in
            PEFT, a list of the ends of paths.
        modules_to_save: the ends of the paths of modules that train in full and are saved with the vectors. With the
            task types SEQ_CLS, TOKEN_CLS and QUESTION_ANS the head is one, and so is a pooler that is
            not in the base's files.

    The other fields are what the file of a saved adapter records; they are not for the user.

    Raises:
        UserError: the file of a saved adapter has a missing or wrong key.
    """

    positions: list[str] | str = field(default_factory=lambda: ["ffn"])
    components: list[str] = field(default_factory=lambda: ["scale", "bias"])
    layers: str | list[int] = "all"
    target_modules: str | Collection[str] | None = None
    modules_to_save: list[str] | None = None
    red: Any = field(default=None, repr=False)
    architecture: Any = field(default=None, repr=False)
    head: Any = field(default=None, repr=False)
    label_names: Any = field(default=None, repr=False)
    base: Any = field(default=None, repr=False)
    base_digest: Any = field(default=None, repr=False)
    weights_sha256: Any = field(default=None, repr=False)
    library_versions: Any = field(default=None, repr=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.peft_type = red_type()
        self.folder: Path | None = None  # that it was read from
        self.record: AdapterConfig | None = None  # its content
        self.attached: Attached | None = None  # what the tuner found in the model
        self.loaded_by_transformers = False  # whose `save_pretrained` writes a configuration before its vectors
        if self.red is not None:
            self.record = _record(self)
            self._take_options(self.record.red)
            self.modules_to_save = list(dict.fromkeys(name.rpartition(".")[0] for name in self.record.head)) or None
            if self.record.task_type == NO_TASK:
                self._take_class(self.record.architecture)
        elif self.target_modules is not None and not isinstance(self.target_modules, str):
            self.target_modules = "|".join(rf"(?:.*\.)?{re.escape(name)}" for name in self.target_modules)
        self._take_options(self.edit)

    @property
    def edit(self) -> edit_config.RedConfig:
        """The configuration of the edits alone.

        Raises:
            pydantic.ValidationError: an option has a value that cannot be used.
        """
        names = edit_config.RedConfig.model_fields
        return edit_config.RedConfig(**{name: getattr(self, name) for name in names})

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str, subfolder: str | None = None, **kwargs: Any) -> Any:
        config = super().from_pretrained(pretrained_model_name_or_path, subfolder=subfolder, **kwargs)
        config.folder = Path(pretrained_model_name_or_path, subfolder or "")
        if not config.folder.is_dir():  # on the Hub: the file that PEFT will load, so that it can be checked before
            options, *_ = cls._split_kwargs(kwargs)
            try:
                file = hf_hub_download(pretrained_model_name_or_path, WEIGHTS_FILE, subfolder=subfolder, **options)
            except EntryNotFoundError:
                raise UserError(
                    "file-not-found", f"{pretrained_model_name_or_path} on the Hub has no {WEIGHTS_FILE}"
                ) from None
            config.folder = Path(file).parent
        if config.record is None and (config.folder / WEIGHTS_FILE).is_file():
            raise UserError("file-damaged", f"{config.folder / CONFIG_FILE}: key 'red' is missing")
        return config

    def to_dict(self) -> dict[str, Any]:
        """The options as plain data, without what a saved file records."""
        return {key: value for key, value in asdict(self).items() if key not in _RECORD}

    def save_pretrained(self, save_directory: str | Path, **kwargs: Any) -> None:
        """Write `adapter_config.json` for the vectors in the folder; the options alone where the folder has none.

        The vectors are rewritten as float32 if they are not.

        Raises:
            UserError: the folder has vectors in a format other than safetensors; the model's weights hold folded
                edits, so that its base is in no file; or transformers by itself loaded the adapter, whose own saving
                would write vectors that do not belong to the configuration.
        """
        folder = Path(save_directory)
        weights = folder / WEIGHTS_FILE
        if self.loaded_by_transformers:
            raise UserError(
                "unsupported-method",
                "transformers by itself does not save an adapter of RED",
                hint="Load it by PeftModel.from_pretrained(base, FOLDER) or red_cli.load(FOLDER), and save that model.",
            )
        if weights.with_suffix(".bin").is_file():
            raise UserError(
                "unsupported-file",
                f"{folder} holds a pickle, which red does not read",
                hint="Save with safe_serialization=True, into a folder without it.",
            )
        if self.attached is None or not weights.is_file():
            super().save_pretrained(str(folder), **kwargs)
            return
        base = self.attached.base
        if base.folded:
            raise UserError(
                "unsupported-model",
                "edits were folded into the model before, so that its adapter would belong to no base in files",
                hint="Save an adapter before merging; or save the merged model, and attach to that.",
            )
        tensors, vectors = load_file(weights), self.attached.forms()
        if any(tensor.dtype != torch.float32 for tensor in tensors.values()):  # of a model that was cast
            tensors = {key: tensor.float() for key, tensor in tensors.items()}
            write_bytes(weights, save(tensors, metadata={"format": "pt"}))
        head = [key.removeprefix(KEY_PREFIX) for key in tensors if key not in vectors]
        trained_head = bool({*head} & base.head)
        content = AdapterConfig(
            base_model_name_or_path=self.base_model_name_or_path or "",
            revision=self.revision,
            task_type=self.task_type or base.task_types[trained_head],
            architecture=base.architecture,
            red=self.attached.edit,
            target_modules=self.attached.paths,
            head=head,
            label_names=base.label_names[trained_head] if self.record is None else self.record.label_names,
            base=base.identity,
            base_digest=None if self.record is None else self.record.base_digest,
            weights_sha256=hashlib.sha256(weights.read_bytes()).hexdigest(),
            library_versions={name: importlib.metadata.version(name) for name in ("torch", "transformers", "peft")},
        )
        write_json(folder / CONFIG_FILE, content.model_dump())

    def _take_class(self, architecture: str | None) -> None:
        """Let PEFT load the class that was trained, with any inputs, where an adapter has no task.

        Its own class for that type passes the inputs of texts alone.
        """
        self.task_type = None
        if architecture is not None and hasattr(transformers, architecture):
            self.auto_mapping = {"base_model_class": architecture, "parent_library": "transformers"}

    def _take_options(self, edit: edit_config.RedConfig) -> None:
        """Take the values of an edit's configuration."""
        for name in edit_config.RedConfig.model_fields:
            setattr(self, name, getattr(edit, name))


def _record(config: RedConfig) -> AdapterConfig:
    """The content of an adapter's file from the fields that PEFT filled with it."""
    known = {item.name for item in fields(config)} & {*AdapterConfig.model_fields}
    content = {name: getattr(config, name) for name in known}
    try:
        return AdapterConfig.model_validate(
            content | {"peft_type": "RED", "task_type": str(getattr(config.task_type, "value", config.task_type))}
        )
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise UserError("file-damaged", f"{CONFIG_FILE}: key {key!r}: {first['msg']}") from None
