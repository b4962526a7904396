"""The one table that knows the names inside each architecture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from red_cli.edit.config import Position


@dataclass(frozen=True)
class Architecture:
    """What must be known of a model type.

    Attributes:
        positions: position -> regular expression over the end of a module's path; group 1 is the layer's number.
        bias_switch: the configuration key that gives the edited projections a bias where checkpoints have none,
            so that an edit's bias can be folded into them.
    """

    positions: Mapping[Position, str]
    bias_switch: str | None = None


def _names(layer: str, **ends: str) -> dict[Position, str]:
    """Patterns `<layer>.<number>.<end>`, by position."""
    return {position: rf"{layer}\.(\d+)\.{end}" for position, end in ends.items()}  # type: ignore[misc]


def _separate(layer: str, ffn: str, attention: str, output: str = "o_proj") -> dict[Position, str]:
    """The usual decoder layer: an FFN, and attention with separate q_proj, k_proj and v_proj."""
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
# On a mixture of experts the FFN's output is the block's: there is no one projection to follow.
_MIXTURE = _separate("layers", "mlp", "self_attn")
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
# Norms after the residual, as in the first transformers; the relatives of BART norm before.
_BART = _ENCODER_DECODER | _names("layers", ffn_norm="final_layer_norm", attn_norm=r"(?:self|encoder)_attn_layer_norm")
_FUSED_BLOCK = {"attn": r"self_attention\.dense", "qkv": r"self_attention\.query_key_value"}

# model_type of the configuration -> architecture
ARCHITECTURES: dict[str, Architecture] = {
    # encoders
    "bert": Architecture(_BERT),
    "roberta": Architecture(_BERT),
    "xlm-roberta": Architecture(_BERT),
    "electra": Architecture(_BERT),
    "deberta-v2": Architecture(_DEBERTA),
    "distilbert": Architecture(_DISTILBERT),
    "modernbert": Architecture(
        _names("layers", ffn=r"mlp\.Wo", attn=r"attn\.Wo", qkv=r"attn\.Wqkv"), bias_switch="mlp_bias"
    ),
    # decoders
    "gpt2": Architecture(_names("h", ffn=r"mlp\.c_proj", attn=r"attn\.c_proj", qkv=r"attn\.c_attn")),
    "gpt_neo": Architecture(_separate("h", r"mlp\.c_proj", r"attn\.attention", output="out_proj")),
    "gptj": Architecture(_separate("h", r"mlp\.fc_out", "attn", output="out_proj")),
    "gpt_neox": Architecture(
        _names("layers", ffn=r"mlp\.dense_4h_to_h", attn=r"attention\.dense", qkv=r"attention\.query_key_value")
    ),
    "opt": Architecture(_separate("layers", "fc2", "self_attn", output="out_proj")),
    "bloom": Architecture(_names("h", ffn=r"mlp\.dense_4h_to_h", **_FUSED_BLOCK)),
    "falcon": Architecture(_names("h", ffn=r"mlp\.dense_4h_to_h", **_FUSED_BLOCK)),
    "mpt": Architecture(_names("blocks", ffn=r"ffn\.down_proj", attn=r"attn\.out_proj", qkv=r"attn\.Wqkv")),
    "phi": Architecture(_separate("layers", r"mlp\.fc2", "self_attn", output="dense")),
    "phi3": Architecture(
        _names("layers", ffn=r"mlp\.down_proj", attn=r"self_attn\.o_proj", qkv=r"self_attn\.qkv_proj")
    ),
    "starcoder2": Architecture(_separate("layers", r"mlp\.c_proj", "self_attn")),
    "stablelm": Architecture(_LLAMA),
    "llama": Architecture(_LLAMA),
    "mistral": Architecture(_LLAMA),
    "qwen2": Architecture(_LLAMA),
    "qwen3": Architecture(_LLAMA),
    "gemma": Architecture(_LLAMA),
    "gemma2": Architecture(_LLAMA),
    "gemma3_text": Architecture(_LLAMA),
    "olmo": Architecture(_LLAMA),
    "olmo2": Architecture(_LLAMA),
    "granite": Architecture(_LLAMA),
    "smollm3": Architecture(_LLAMA),
    "cohere": Architecture(_LLAMA),
    "mixtral": Architecture(_MIXTURE),
    "qwen3_moe": Architecture(_MIXTURE),
    "olmoe": Architecture(_MIXTURE),
    # encoder-decoders: layers count within each stack, attention means self- and cross-attention
    "t5": Architecture(_T5),
    "mt5": Architecture(_T5),
    "umt5": Architecture(_T5),
    "longt5": Architecture(_T5),
    "bart": Architecture(_BART),
    "mbart": Architecture(_ENCODER_DECODER),
    "pegasus": Architecture(_ENCODER_DECODER),
    "m2m_100": Architecture(_ENCODER_DECODER),
    # pictures and speech
    "vit": Architecture(_names("layers", ffn=r"mlp\.fc2")),
    "whisper": Architecture(_names("layers", ffn="fc2")),
    "clip": Architecture(_names("layers", ffn=r"mlp\.fc2")),
    "clip_text_model": Architecture(_names("layers", ffn=r"mlp\.fc2")),
    "clip_vision_model": Architecture(_names("layers", ffn=r"mlp\.fc2")),
}
