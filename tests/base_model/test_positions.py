"""The longest sequence is what a model's table of positions holds, in whichever way the model numbers positions."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoModel, PretrainedConfig, PreTrainedModel

from red_cli.base_model.positions import most_positions
from tests.tiny import VOCABULARY, make_base, write_csv

MOST = 24  # max_position_embeddings of the tiny models
PADDING = 1
_SIZES = {
    "vocab_size": 30, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64,
    "pad_token_id": PADDING, "bos_token_id": 0, "eos_token_id": 2, "max_position_embeddings": MOST,
}  # fmt: skip
_DECODER_SIZES = _SIZES | {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": MOST}
_SEQ2SEQ_SIZES = _SIZES | {
    "d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4, "decoder_attention_heads": 4,
    "encoder_ffn_dim": 64, "decoder_ffn_dim": 64, "decoder_start_token_id": 2,
}  # fmt: skip
# model type -> usable positions
AFTER_PADDING = dict.fromkeys(
    ("roberta", "xlm-roberta", "camembert", "mpnet", "data2vec-text", "xlm-roberta-xl", "roberta-prelayernorm",
     "longformer", "luke", "ibert", "esm", "xmod", "layoutlmv3", "lilt", "markuplm"),
    MOST - PADDING - 1,
)  # fmt: skip
FROM_THE_FIRST_ROW = dict.fromkeys(
    ("albert", "bert", "bert-generation", "big_bird", "convbert", "deberta", "deberta-v2", "distilbert", "electra",
     "ernie", "fnet", "megatron-bert", "mobilebert", "rembert", "roc_bert", "squeezebert", "xlm", "flaubert",
     "nystromformer", "yoso", "gpt2", "gpt_neo", "gpt_bigcode", "openai-gpt", "opt", "biogpt", "bart", "mbart",
     "plbart", "blenderbot", "blenderbot-small", "mvp", "pegasus", "marian", "roformer", "bigbird_pegasus"),
    MOST,
)  # fmt: skip
# Without a table that ends: positions are computed, so that `max_position_embeddings` alone limits a sequence
COMPUTED = dict.fromkeys(("llama", "gpt_neox", "modernbert", "m2m_100", "fsmt"), MOST)
_CHANGES: dict[str, dict[str, object]] = {
    "lilt": {"hidden_size": 48},
    "luke": {"entity_vocab_size": 4, "entity_emb_size": 8},
    "xmod": {"default_language": "en_XX"},
    "longformer": {"attention_window": 4},
    "big_bird": {"attention_type": "original_full"},
    "bigbird_pegasus": {"attention_type": "original_full"},
    "distilbert": {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64},
    "gpt_neo": {"num_layers": 2, "num_heads": 4, "attention_types": [[["global"], 2]]},
    "opt": {"ffn_dim": 64, "word_embed_proj_dim": 32},
    "xlm": {"emb_dim": 32, "n_layers": 2, "n_heads": 4, "n_words": 30},
    "flaubert": {"emb_dim": 32, "n_layers": 2, "n_heads": 4, "n_words": 30},
    "mobilebert": {"embedding_size": 16, "intra_bottleneck_size": 32, "true_hidden_size": 32},
    "convbert": {"embedding_size": 32},
    "fsmt": {"src_vocab_size": 30, "tgt_vocab_size": 30, "langs": ["en", "de"]},
    "layoutlmv3": {"visual_embed": False, "coordinate_size": 4, "shape_size": 8, "has_spatial_attention_bias": False,
                   "has_relative_attention_bias": False},
    "esm": {"position_embedding_type": "absolute", "mask_token_id": 4},
    "modernbert": {"cls_token_id": 0, "sep_token_id": 2},
    "squeezebert": {"embedding_size": 32},
}  # fmt: skip


def small(model_type: str) -> PretrainedConfig:
    encoder_decoder = AutoConfig.for_model(model_type).is_encoder_decoder
    sizes = _SEQ2SEQ_SIZES if encoder_decoder else _DECODER_SIZES
    return AutoConfig.for_model(model_type, **{**sizes, **_CHANGES.get(model_type, {})})


def run(model: PreTrainedModel, length: int) -> None:
    ids = torch.full((1, length), 5)
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    if model.config.is_encoder_decoder:
        inputs["decoder_input_ids"] = ids[:, :2]
    with torch.inference_mode():
        model(**inputs)


@pytest.mark.parametrize("model_type", [*AFTER_PADDING, *FROM_THE_FIRST_ROW, *COMPUTED])
def test_a_full_row_fits_and_no_longer_one(model_type: str) -> None:
    expected = (AFTER_PADDING | FROM_THE_FIRST_ROW | COMPUTED)[model_type]
    config = small(model_type)
    assert most_positions(config) == expected
    model = AutoModel.from_config(config).eval()
    run(model, expected)
    if model_type not in COMPUTED:
        with pytest.raises((IndexError, RuntimeError)):
            run(model, expected + 1)


def test_rows_are_cut_at_what_the_model_holds(red, tmp_path: Path) -> None:
    base = make_base(tmp_path / "base", "roberta")
    config = {**_SIZES, "vocab_size": len(VOCABULARY), "max_position_embeddings": 64}
    AutoModel.from_config(AutoConfig.for_model("camembert", **config)).save_pretrained(base)
    tokenizer = json.loads((base / "tokenizer_config.json").read_text())
    (base / "tokenizer_config.json").write_text(json.dumps({**tokenizer, "model_max_length": 10**30}))
    rows = [{"text": f"{word} " * 100, "label": word} for word in ("good", "bad")]
    for split in ("train", "validation"):
        write_csv(tmp_path / f"{split}.csv", rows)
    keys = (f"data.path={tmp_path}", f"model.name_or_path={base}", r"red.target_modules=.*\d\.output\.dense",
            "train.num_train_epochs=1", f"output.dir={tmp_path / 'run'}")  # fmt: skip
    checked = red("check", "classification", *keys, "--json")
    assert checked.code == 0, checked.err
    plan = checked.json["plan"]
    assert (plan["max_length"], plan["lengths"]["train"]["truncated"]) == (62, 2)
    trained = red("train", "classification", *keys)
    assert trained.code == 0, trained.err
