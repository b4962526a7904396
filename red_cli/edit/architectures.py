"""The table of architectures: module names, biases that servers read, and other properties by model type."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

from red_cli.edit.architectures_as_llama import MISTRAL, PHI3, QWEN2, SMOLLM3, AsLlama
from red_cli.edit.config import Position


@dataclass(frozen=True)
class Reads:
    """What one server reads of an architecture's biases.

    Attributes:
        unread: regular expression for the ends of the paths of modules whose biases the server's own class has no
            place for; empty: it reads every bias that an export can have.
        run: whether the server's answers to exports were compared with those of transformers; else its code was read.
    """

    unread: str = ""
    run: bool = False

    def has_place_at(self, path: str) -> bool:
        """Whether the server has a place for a bias of the module `path`."""
        return not self.unread or re.fullmatch(rf"(?:.*\.)?(?:{self.unread})", path) is None


class Servers(NamedTuple):
    """Which servers run an architecture; None: not on their list. docs/servers.md says what was tried."""

    vllm: Reads | None = None
    llama_cpp: Reads | None = None


# What one server reads
EVERY = Reads(run=True)
NOT_OUTPUT = Reads(r"self_attn\.o_proj", run=True)
NOT_ATTENTION = Reads(r"self_attn\.[qkvo]_proj", run=True)
# What the servers read
BOTH = Servers(EVERY, EVERY)
VLLM = Servers(vllm=EVERY)
BUT_OUTPUT_IN_LLAMA_CPP = Servers(EVERY, NOT_OUTPUT)


@dataclass(frozen=True)
class Architecture:
    """The properties of a model type.

    Attributes:
        positions: position -> regular expression for the end of a module's path; group 1 is the layer's number.
        bias_switches: regular expression for the end of a module's path -> the configuration key that gives all such
            modules a bias; an edit's bias can then be folded into checkpoints without biases.
        conv1d: whether projections store their weight as (in, out).
        in_files: the end of a module's path -> regular expression for its path in checkpoint files, if it differs
            (LAYER stands for group 1 of the key): modules renamed while loading, or the experts of a mixture.
        head_dropout: the configuration key of the classification head's dropout, if it is not the usual one.
        looks_for_padding: whether the model, if it is given no mask, reads token ids from the device to find padding.
        keeps_texts_apart: whether packed texts were found to have the same logits as each text alone. Models that
            compute positions themselves do not: ALiBi (BLOOM, MPT, some Falcons), or from the mask (OPT).
        one_plus_norm: whether norms scale by 1 + weight.
        as_llama: how to convert it to an equivalent LLaMA, whose projections can have biases.
        servers: which servers run it.
    """

    positions: Mapping[Position, str]
    bias_switches: Mapping[str, str] = field(default_factory=dict)
    conv1d: bool = False
    in_files: Mapping[str, str] = field(default_factory=dict)
    head_dropout: str | None = None
    looks_for_padding: bool = False
    keeps_texts_apart: bool = False
    one_plus_norm: bool = False
    as_llama: AsLlama | None = None
    servers: Servers = field(default_factory=Servers)


def _names(layer: str, **ends: str) -> dict[Position, str]:
    """Patterns `<layer>.<number>.<end>`, by position."""
    return {position: rf"{layer}\.(\d+)\.{end}" for position, end in ends.items()}  # type: ignore[misc]


def _separate(layer: str, ffn: str, attention: str, output: str = "o_proj") -> dict[Position, str]:
    """A common decoder layer: an FFN, and attention with separate q_proj, k_proj and v_proj."""
    inputs = {name: rf"{attention}\.{name[0]}_proj" for name in ("query", "key", "value")}
    return _names(layer, ffn=ffn, attn=rf"{attention}\.{output}", **inputs)


_BERT = _names(
    r"encoder\.layer",
    ffn=r"output\.dense",
    attn=r"attention\.output\.dense",
    query=r"attention\.self\.query",
    key=r"attention\.self\.key",
    value=r"attention\.self\.value",
    ffn_norm=r"output\.LayerNorm",
    attn_norm=r"attention\.output\.LayerNorm",
)
_DEBERTA = _BERT | _names(
    r"encoder\.layer",
    query=r"attention\.self\.query_proj",
    key=r"attention\.self\.key_proj",
    value=r"attention\.self\.value_proj",
)
_DISTILBERT = _names(
    r"transformer\.layer",
    ffn=r"ffn\.lin2",
    attn=r"attention\.out_lin",
    query=r"attention\.q_lin",
    key=r"attention\.k_lin",
    value=r"attention\.v_lin",
    ffn_norm="output_layer_norm",
    attn_norm="sa_layer_norm",
)
_LLAMA = _separate("layers", r"mlp\.down_proj", "self_attn")
_ATTENTION_BIAS = {r"self_attn\.[qkvo]_proj": "attention_bias"}
_EVERY_BIAS = {r"mlp\.(?:gate|up|down)_proj": "mlp_bias", **_ATTENTION_BIAS}
# In a mixture of experts the FFN's output is that of the block, since it has no single output projection.
_MIXTURE = _separate("layers", "mlp", "self_attn")
_EXPERTS = {r"layers\.(\d+)\.mlp": r"layers\.LAYER\.mlp(?:\.experts\.\d+)?\.down_proj"}
_T5_ATTENTION = r"layer\.\d+\.\w*Attention"
_T5 = _names(
    "block",
    ffn=r"layer\.\d+\.DenseReluDense\.wo",
    attn=rf"{_T5_ATTENTION}\.o",
    query=rf"{_T5_ATTENTION}\.q",
    key=rf"{_T5_ATTENTION}\.k",
    value=rf"{_T5_ATTENTION}\.v",
)
_ENCODER_DECODER = _separate("layers", "fc2", r"(?:self|encoder)_attn", output="out_proj")
# BART normalises after the residual, as the original transformer does; its relatives normalise before.
_BART = _ENCODER_DECODER | _names("layers", ffn_norm="final_layer_norm", attn_norm=r"(?:self|encoder)_attn_layer_norm")
_FUSED_BLOCK = {"attn": r"self_attention\.dense", "qkv": r"self_attention\.query_key_value"}
_packing = partial(Architecture, keeps_texts_apart=True)

# model_type of the configuration -> architecture
ARCHITECTURES: dict[str, Architecture] = {
    # encoders
    "bert": Architecture(_BERT),
    "roberta": Architecture(_BERT),
    "xlm-roberta": Architecture(_BERT),
    "electra": Architecture(_BERT),
    "deberta-v2": Architecture(_DEBERTA, head_dropout="cls_dropout", looks_for_padding=True),
    "distilbert": Architecture(_DISTILBERT, head_dropout="seq_classif_dropout"),
    "modernbert": Architecture(
        _names("layers", ffn=r"mlp\.Wo", attn=r"attn\.Wo", qkv=r"attn\.Wqkv"),
        {r"mlp\.W[io]": "mlp_bias", r"attn\.(?:Wqkv|Wo)": "attention_bias"},
    ),
    # decoders
    "gpt2": _packing(
        _names("h", ffn=r"mlp\.c_proj", attn=r"attn\.c_proj", qkv=r"attn\.c_attn"),
        conv1d=True,
        looks_for_padding=True,
        servers=BOTH,
    ),
    "gpt_neo": _packing(_separate("h", r"mlp\.c_proj", r"attn\.attention", output="out_proj")),
    "gptj": _packing(_separate("h", r"mlp\.fc_out", "attn", output="out_proj"), servers=VLLM),
    "gpt_neox": _packing(
        _names("layers", ffn=r"mlp\.dense_4h_to_h", attn=r"attention\.dense", qkv=r"attention\.query_key_value"),
        {r"attention\.(?:dense|query_key_value)": "attention_bias"},
        servers=BOTH,
    ),
    "opt": Architecture(
        _separate("layers", "fc2", "self_attn", output="out_proj"),
        {r"fc[12]|self_attn\.(?:[qkv]|out)_proj": "enable_bias"},
        servers=VLLM,
    ),
    "bloom": Architecture(_names("h", ffn=r"mlp\.dense_4h_to_h", **_FUSED_BLOCK), servers=BOTH),
    # transformers 5.24 keeps its packed texts apart, 5.9 does not
    "falcon": Architecture(
        _names("h", ffn=r"mlp\.dense_4h_to_h", **_FUSED_BLOCK),
        {r"mlp\.dense_(?:h_to_4h|4h_to_h)|self_attention\.(?:dense|query_key_value)": "bias"},
        servers=Servers(EVERY, Reads(r"self_attention\.\w+|mlp\.\w+")),
    ),
    "mpt": Architecture(_names("blocks", ffn=r"ffn\.down_proj", attn=r"attn\.out_proj", qkv=r"attn\.Wqkv")),
    "phi": _packing(_separate("layers", r"mlp\.fc2", "self_attn", output="dense"), servers=BOTH),
    "phi3": _packing(
        _names("layers", ffn=r"mlp\.down_proj", attn=r"self_attn\.o_proj", qkv=r"self_attn\.qkv_proj"),
        as_llama=PHI3,
        servers=BOTH,
    ),
    "starcoder2": _packing(
        _separate("layers", r"mlp\.c_proj", "self_attn"),
        {r"mlp\.c_(?:fc|proj)|self_attn\.[qkvo]_proj": "use_bias"},
        servers=BOTH,
    ),
    "stablelm": _packing(_LLAMA, {r"self_attn\.[qkv]_proj": "use_qkv_bias"}, servers=BOTH),
    "llama": _packing(_LLAMA, _EVERY_BIAS, servers=BOTH),
    "mistral": _packing(_LLAMA, as_llama=MISTRAL, servers=BOTH),
    "qwen2": _packing(_LLAMA, as_llama=QWEN2, servers=BOTH),
    "qwen3": _packing(_LLAMA, _ATTENTION_BIAS, servers=Servers(NOT_OUTPUT, NOT_OUTPUT)),
    "gemma": _packing(_LLAMA, _ATTENTION_BIAS, one_plus_norm=True, servers=Servers(NOT_ATTENTION, NOT_OUTPUT)),
    "gemma2": _packing(_LLAMA, _ATTENTION_BIAS, one_plus_norm=True, servers=BUT_OUTPUT_IN_LLAMA_CPP),
    "gemma3_text": _packing(_LLAMA, _ATTENTION_BIAS, one_plus_norm=True, servers=BUT_OUTPUT_IN_LLAMA_CPP),
    "olmo": _packing(_LLAMA, _ATTENTION_BIAS, servers=BUT_OUTPUT_IN_LLAMA_CPP),
    "olmo2": _packing(_LLAMA, _ATTENTION_BIAS, servers=BUT_OUTPUT_IN_LLAMA_CPP),
    "granite": _packing(_LLAMA, _EVERY_BIAS, servers=BOTH),
    "smollm3": _packing(
        _LLAMA,
        _EVERY_BIAS,
        as_llama=SMOLLM3,
        servers=Servers(EVERY, Reads(r"self_attn\.o_proj|mlp\.\w+_proj", run=True)),
    ),
    "cohere": _packing(_LLAMA, _ATTENTION_BIAS, servers=Servers(NOT_ATTENTION, NOT_OUTPUT)),
    "mixtral": _packing(
        _MIXTURE,
        in_files={r"layers\.(\d+)\.mlp": r"layers\.LAYER\.block_sparse_moe\.experts\.\d+\.w2"},
        servers=BOTH,
    ),
    "qwen3_moe": _packing(_MIXTURE, _ATTENTION_BIAS, in_files=_EXPERTS, servers=Servers(NOT_OUTPUT, NOT_OUTPUT)),
    "olmoe": _packing(_MIXTURE, _ATTENTION_BIAS, in_files=_EXPERTS, servers=Servers(NOT_ATTENTION, NOT_OUTPUT)),
    # encoder-decoders: layers count within each stack, attention means self- and cross-attention
    "t5": Architecture(_T5),
    "mt5": Architecture(_T5),
    "umt5": Architecture(_T5),
    "longt5": Architecture(_T5),
    "bart": Architecture(_BART),
    "mbart": Architecture(_ENCODER_DECODER),
    "pegasus": Architecture(_ENCODER_DECODER),
    "m2m_100": Architecture(_ENCODER_DECODER),
    # images and speech
    "vit": Architecture(
        _names("layers", ffn=r"mlp\.fc2"),
        in_files={r"layers\.(\d+)\.mlp\.fc2": r"encoder\.layer\.LAYER\.output\.dense"},
    ),
    "whisper": Architecture(_names("layers", ffn="fc2")),
    "clip": Architecture(_names("layers", ffn=r"mlp\.fc2")),
    "clip_text_model": Architecture(_names("layers", ffn=r"mlp\.fc2")),
    "clip_vision_model": Architecture(_names("layers", ffn=r"mlp\.fc2")),
}
# Model types without positions, which `red.target_modules` edits
_OTHERS: dict[str, Architecture] = {
    **dict.fromkeys(("openai-gpt", "imagegpt", "decision_transformer", "clvp"), Architecture({}, conv1d=True)),
    **dict.fromkeys(
        ("gemma3", "gemma3n_text", "recurrent_gemma", "nemotron", "qwen3_next"), Architecture({}, one_plus_norm=True)
    ),
}


def architecture_of(model_type: str) -> Architecture:
    """The properties of a model type; without positions if the table has no row for it."""
    return ARCHITECTURES.get(model_type) or _OTHERS.get(model_type) or Architecture({})
