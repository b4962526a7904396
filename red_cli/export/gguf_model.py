"""Write a merged LLaMA as one GGUF file: its configuration, vocabulary, chat template, ends and weights."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from red_cli.base_model.base_files import BaseFiles, read_base
from red_cli.base_model.gguf_files import INSTALL_GGUF
from red_cli.errors import UserError
from red_cli.export.ends import end_ids
from red_cli.export.gguf_vocabulary import Vocabulary, read_vocabulary
from red_cli.export.gguf_weights import (
    add_tensor_infos,
    gguf_tensors,
    require_equal_tensors,
    rope_factors,
    written_bytes,
)
from red_cli.export.transformers_classes import build_configuration
from red_cli.recipe.sections import Model

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedTokenizerBase

GGUF_NAME = "model.gguf"
_ARCHITECTURE, _CLASS = "llama", "LlamaForCausalLM"
_ROPE_FACTORS = "rope_freqs.weight"
_PROBE = "a"


@dataclass(frozen=True)
class WrittenGguf:
    """What a GGUF file holds: the number of weights, llama.cpp's name of the tokenizer, and what it does otherwise."""

    tensors: int
    tokenizer: str
    remark: str


def require_gguf(architecture: str, config: dict[str, Any], base: Path) -> None:
    """Check, before any work, that a LLaMA can be written as a GGUF file.

    Args:
        architecture: the name of its class.
        config: the content of its config.json.
        base: the folder of the base, which has its tokenizer.

    Raises:
        UserError: the package gguf is not installed, the model writes no text, or llama.cpp has no equal of its
            tokenizer, its positions or its activation.
    """
    if importlib.util.find_spec("gguf") is None:
        raise UserError("missing-dependency", "the package gguf is not installed", hint=INSTALL_GGUF)
    if architecture != _CLASS:
        raise UserError(
            "unsupported-model",
            f"a GGUF file of red holds a LLaMA that writes text ({_CLASS}); this model is {architecture}",
            hint="Export ordinary weights: --format merged",
        )
    llama = build_configuration(config)
    if llama.hidden_act not in ("silu", "swish"):
        raise UserError("unsupported-model", f"llama.cpp's LLaMA has the activation silu, not {llama.hidden_act}")
    if (kind := llama.rope_parameters["rope_type"]) not in ("default", "linear", "llama3"):
        raise UserError(
            "unsupported-model",
            f"red writes no GGUF file of positions of the type {kind} (rope_parameters)",
            hint="Export ordinary weights (--format merged), and try llama.cpp's own convert_hf_to_gguf.py on them.",
        )
    from red_cli.base_model.load import load_tokenizer

    read_vocabulary(load_tokenizer(Model(name_or_path=str(base))), llama.vocab_size)


def write_gguf(folder: Path, file: Path, name: str) -> WrittenGguf:
    """Write the merged LLaMA in `folder` to `file`, tensor by tensor, and read every tensor back.

    Raises:
        UserError: llama.cpp has no equal of the tokenizer, or the weights are not those of a LLaMA.
        RunFailed: a tensor of the file differs from the merged weights.
    """
    import gguf
    from transformers import AutoConfig, AutoTokenizer

    model = read_base(name, folder)
    config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    vocabulary = read_vocabulary(tokenizer, config.vocab_size)
    tensors = gguf_tensors(model)
    writer = gguf.GGUFWriter(file, _ARCHITECTURE)
    try:
        writer.add_name(name)
        _add_configuration(writer, config, model)
        _add_vocabulary(writer, vocabulary, config.vocab_size)
        remark = _add_special_tokens(writer, tokenizer, end_ids(folder))
        width = config.head_dim
        factors = rope_factors(config.to_dict(), width)
        if factors is not None:
            writer.add_tensor_info(_ROPE_FACTORS, factors.shape, factors.dtype, factors.nbytes)
        add_tensor_infos(writer, tensors)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for content in ([] if factors is None else [factors], map(written_bytes, tensors)):
            for tensor in content:
                writer.write_tensor_data(tensor)
    finally:
        writer.close()
    require_equal_tensors(file, tensors)
    remark = "; ".join(text for text in (vocabulary.remark, remark) if text)
    return WrittenGguf(len(tensors), vocabulary.pre if vocabulary.merges else "SentencePiece", remark)


def _add_configuration(writer: Any, config: PretrainedConfig, model: BaseFiles) -> None:
    """Add a LLaMA's configuration to its GGUF file."""
    import gguf

    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_dimension_count(config.head_dim)
    rope = config.rope_parameters
    writer.add_rope_freq_base(rope["rope_theta"])
    if rope["rope_type"] == "linear":
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(rope["factor"])
    widest = {stored.dtype for stored in model.tensors.values()}
    kind = next((kind for kind in ("BF16", "F16") if kind in widest), None)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32 if kind is None else gguf.LlamaFileType[f"MOSTLY_{kind}"])


def _add_vocabulary(writer: Any, vocabulary: Vocabulary, size: int) -> None:
    """Write the merged LLaMA's tokens, and their scores or merges, to its GGUF file."""
    import gguf

    writer.add_vocab_size(size)
    writer.add_tokenizer_model(vocabulary.model)
    writer.add_tokenizer_pre(vocabulary.pre)
    writer.add_token_list(vocabulary.tokens)
    writer.add_token_types([gguf.TokenType[kind] for kind in vocabulary.kinds])
    if vocabulary.scores is not None:
        writer.add_token_scores(vocabulary.scores)
    if vocabulary.merges:
        writer.add_token_merges(vocabulary.merges)
    if vocabulary.space_prefix is not None:
        writer.add_add_space_prefix(vocabulary.space_prefix)


def _add_special_tokens(writer: Any, tokenizer: PreTrainedTokenizerBase, ends: list[int]) -> str:
    """Write the LLaMA's ends, chat template and special tokens to GGUF; returns which ends it cannot hold.

    Args:
        ends: where the model stops, the trained end last.
    """
    template = tokenizer.chat_template
    own = tokenizer.eos_token_id
    # llama.cpp renders eos_token of a chat template from the first of its ends
    first = own if own in ends or not ends or "eos_token" in str(template) else ends[-1]
    others = [end for end in reversed(ends) if end != first]
    if first is not None:
        writer.add_eos_token_id(first)
    if others:
        writer.add_eot_token_id(others[0])
    for token_id, add in (
        (tokenizer.bos_token_id, writer.add_bos_token_id),
        (tokenizer.unk_token_id, writer.add_unk_token_id),
        (tokenizer.pad_token_id, writer.add_pad_token_id),
    ):
        if token_id is not None and token_id < len(tokenizer):
            add(token_id)
    framed = tokenizer(_PROBE)["input_ids"]
    writer.add_add_bos_token(tokenizer.bos_token_id is not None and framed[0] == tokenizer.bos_token_id)
    writer.add_add_eos_token(own is not None and framed[-1] == own)
    if isinstance(template, dict):
        writer.add_chat_template([{"name": name, "template": text} for name, text in template.items()])
    elif template is not None:
        writer.add_chat_template(template)
    left = tokenizer.convert_ids_to_tokens(others[1:])
    return f"a GGUF file names two ends; llama.cpp knows {', '.join(left)} only if it is a usual one" if left else ""
