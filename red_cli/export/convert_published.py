"""Convert a checkpoint of the paper's published code to an adapter folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import AutoModel, PretrainedConfig, PreTrainedModel

from red_cli.base_model.load import load_config
from red_cli.base_model.prepare import fit_config
from red_cli.edit.attached_adapters import count
from red_cli.edit.load_adapters import save_adapter
from red_cli.edit.model_kinds import DECODER, ENCODER_DECODER, SEQUENCE_CLASSIFIER
from red_cli.edit.published import Published, attach_published, read_published
from red_cli.files import replacing_folder
from red_cli.recipe.sections import Model


def convert(checkpoint: Path, base: str, output: Path) -> dict[str, Any]:
    """Write the adapter folder `output`. Only the base's configuration is needed.

    Returns:
        "output", "modules", "edited_parameters", "head_parameters", "red" (the configuration), and "warnings".

    Raises:
        UserError: the checkpoint cannot be read, does not fit the base, or `output` is not empty.
    """
    published = read_published(checkpoint)
    named = Model(name_or_path=base)
    config = load_config(named)
    fit_config(config, named, SEQUENCE_CLASSIFIER, _label_names(published))
    config._name_or_path = base
    model = _skeleton(config, published)
    red = attach_published(model, published)
    with replacing_folder(output) as folder:
        save_adapter(model, folder)
    counts = count(model)
    warnings = []
    if published.scale_never_moved:
        warnings.append(
            "every scale is exactly 1.0: the vectors were trained in bfloat16, where an optimiser step of the usual "
            "size is rounded away near 1.0, so in effect only the biases were trained"
        )
    return {
        "output": str(output),
        "modules": len(published.vectors),
        "edited_parameters": counts.edited,
        "head_parameters": counts.head,
        "red": red.model_dump(),
        "warnings": warnings,
    }


def _label_names(published: Published) -> list[str]:
    """Names for the labels of a published checkpoint, LABEL_0, LABEL_1, …, by the outputs of its head."""
    outputs = max((len(tensor) for name, tensor in published.head.items() if "out_proj" in name), default=2)
    return [f"LABEL_{index}" for index in range(outputs)]


def _skeleton(config: PretrainedConfig, published: Published) -> PreTrainedModel:
    """The model, without weights, that the published adapter to convert edits."""
    if published.head:
        auto_class = SEQUENCE_CLASSIFIER.auto_class
    elif next(iter(published.vectors)).startswith("encoder.") and not config.is_encoder_decoder:
        auto_class = AutoModel  # paths of encoders start at the encoder, those of decoders at the language model
    else:
        auto_class = (ENCODER_DECODER if config.is_encoder_decoder else DECODER).auto_class
    with torch.device("meta"):
        return auto_class.from_config(config, trust_remote_code=False)
