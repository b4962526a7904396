"""Tiny random models and data, made where a test needs them."""

from __future__ import annotations

import csv
import json
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

WIDTH, LAYERS = 32, 3
POSITIVE = ["good", "fine", "bright", "sweet"]
NEGATIVE = ["bad", "poor", "dull", "sour"]
NEUTRAL = ["the", "a", "film", "story", "was", "very", "rather", "and", "so", "it"]
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *POSITIVE, *NEGATIVE, *NEUTRAL]

_COMMON = {
    "vocab_size": len(VOCABULARY),
    "hidden_size": WIDTH,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "initializer_range": 0.2,  # so large that an edit in one layer shows in the output
}
_SPECIAL = {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3}
_DECODER = _COMMON | _SPECIAL | {"num_key_value_heads": 2, "head_dim": 8}
_GPT2 = _SPECIAL | {"vocab_size": 23, "n_embd": WIDTH, "n_layer": LAYERS, "n_head": 4, "n_inner": 64, "n_positions": 64,
                    "initializer_range": 0.2}  # fmt: skip
_MIXTURE = _DECODER | {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
_T5 = _SPECIAL | {"vocab_size": 23, "d_model": WIDTH, "d_ff": 64, "d_kv": 8, "num_layers": LAYERS, "num_heads": 4,
                  "num_decoder_layers": LAYERS, "decoder_start_token_id": 0, "initializer_factor": 1.0}  # fmt: skip
_BART = _SPECIAL | {"vocab_size": 23, "d_model": WIDTH, "encoder_layers": LAYERS, "decoder_layers": LAYERS,
                    "encoder_attention_heads": 4, "decoder_attention_heads": 4, "encoder_ffn_dim": 64,
                    "decoder_ffn_dim": 64, "max_position_embeddings": 64, "init_std": 0.2,
                    "decoder_start_token_id": 2}  # fmt: skip
_PICTURE = {"hidden_size": WIDTH, "num_hidden_layers": LAYERS, "num_attention_heads": 4, "intermediate_size": 64,
            "image_size": 8, "patch_size": 4, "initializer_range": 0.2, "initializer_factor": 2.0}  # fmt: skip
_CLIP_TEXT = _COMMON | {"initializer_factor": 5.0, "bos_token_id": 2, "eos_token_id": 3}

ENCODERS: dict[str, dict] = {
    "bert": _COMMON,
    "roberta": _COMMON,
    "xlm-roberta": _COMMON,
    "electra": {**_COMMON, "embedding_size": 16},
    "deberta-v2": {
        **_COMMON,
        "relative_attention": True,
        "position_buckets": 8,
        "norm_rel_ebd": "layer_norm",
        "pos_att_type": ["p2c", "c2p"],
        "pooler_hidden_size": WIDTH,
    },
    "distilbert": {
        "vocab_size": len(VOCABULARY),
        "dim": WIDTH,
        "n_layers": LAYERS,
        "n_heads": 4,
        "hidden_dim": 64,
        "initializer_range": 0.2,
        "max_position_embeddings": 64,
    },
    "modernbert": {**_COMMON, "cls_token_id": 2, "sep_token_id": 3, "bos_token_id": 2, "eos_token_id": 3},
}
DECODERS: dict[str, dict] = {
    "gpt2": _GPT2,
    "gpt_neo": _SPECIAL | {"vocab_size": 23, "hidden_size": WIDTH, "num_layers": 3, "num_heads": 4,
                           "intermediate_size": 64, "max_position_embeddings": 64, "window_size": 8,
                           "attention_types": [[["global", "local", "global"], 1]], "initializer_range": 0.2},
    "gptj": _GPT2 | {"rotary_dim": 4},
    "gpt_neox": _COMMON | _SPECIAL,
    "opt": _COMMON | _SPECIAL | {"ffn_dim": 64, "word_embed_proj_dim": WIDTH, "init_std": 0.2},
    "bloom": _COMMON | _SPECIAL | {"n_layer": LAYERS, "n_head": 4},
    "falcon": _COMMON | _SPECIAL | {"ffn_hidden_size": 64},
    "mpt": _SPECIAL | {"vocab_size": 23, "d_model": WIDTH, "n_heads": 4, "n_layers": LAYERS, "max_seq_len": 64,
                       "expansion_ratio": 2, "initializer_range": 0.2},
    "phi": _COMMON | _SPECIAL,
    "phi3": _COMMON | _SPECIAL | {"num_key_value_heads": 2},
    "starcoder2": _COMMON | _SPECIAL | {"num_key_value_heads": 2},
    "stablelm": _COMMON | _SPECIAL | {"num_key_value_heads": 2},
    **dict.fromkeys(("llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3_text", "olmo", "olmo2",
                     "granite", "smollm3", "cohere"), _DECODER),
    "mixtral": _DECODER | {"num_local_experts": 4, "num_experts_per_tok": 2},
    "qwen3_moe": _MIXTURE,
    "olmoe": _MIXTURE,
}  # fmt: skip
SEQ2SEQ: dict[str, dict] = {
    **dict.fromkeys(("t5", "mt5", "umt5"), _T5),
    "longt5": _T5 | {"local_radius": 8},
    **dict.fromkeys(("bart", "mbart", "pegasus", "m2m_100"), _BART),
}
OTHERS: dict[str, dict] = {
    "vit": _PICTURE,
    "whisper": _BART | {"num_mel_bins": 8, "max_source_positions": 8, "max_target_positions": 64},
    "clip": {"text_config": _CLIP_TEXT, "vision_config": _PICTURE, "projection_dim": 16},
    "clip_text_model": _CLIP_TEXT,
    "clip_vision_model": _PICTURE,
}
# model_type -> configuration of a tiny model
CONFIGS = ENCODERS | DECODERS | SEQ2SEQ | OTHERS


def tiny_config(model_type: str, **changes: object) -> PretrainedConfig:
    return AutoConfig.for_model(model_type, **{**CONFIGS[model_type], **changes})


def tiny_model(model_type: str, seed: int = 0, **changes: object) -> PreTrainedModel:
    """A random model in evaluation mode, of the kind that its family is fine-tuned as."""
    torch.manual_seed(seed)
    if model_type in ENCODERS:
        config = tiny_config(model_type, num_labels=3, **changes)
        return AutoModelForSequenceClassification.from_config(config).eval()
    kinds = {**dict.fromkeys(DECODERS, AutoModelForCausalLM), **dict.fromkeys(SEQ2SEQ, AutoModelForSeq2SeqLM)}
    return kinds.get(model_type, AutoModel).from_config(tiny_config(model_type, **changes)).eval()


def tiny_funnel() -> PreTrainedModel:
    """A classifier that the table of architectures does not have: its module list holds two module lists."""
    torch.manual_seed(0)
    config = AutoConfig.for_model(
        "funnel", vocab_size=len(VOCABULARY), d_model=WIDTH, n_head=4, d_head=8, d_inner=64, block_sizes=[2, 2],
        num_labels=3, pad_token_id=0,
    )  # fmt: skip
    return AutoModelForSequenceClassification.from_config(config).eval()


def tiny_inputs(model_type: str = "bert", rows: int = 4, length: int = 12) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(5, len(VOCABULARY), (rows, length), generator=generator)
    mask = torch.ones_like(ids)
    mask[0, length // 2 :] = 0
    text = {"input_ids": ids * mask, "attention_mask": mask}
    pixels = torch.randn(rows, 3, 8, 8, generator=generator)
    decoder = torch.randint(5, len(VOCABULARY), (rows, 6), generator=generator)
    if model_type in SEQ2SEQ:
        return {**text, "decoder_input_ids": decoder}
    return {
        "vit": {"pixel_values": pixels},
        "clip_vision_model": {"pixel_values": pixels},
        "clip": {**text, "pixel_values": pixels},
        "whisper": {"input_features": torch.randn(rows, 8, 16, generator=generator), "decoder_input_ids": decoder},
    }.get(model_type, text)


def first_output(model: torch.nn.Module, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    """The tensor a model is for: logits, or its hidden states."""
    output = model(**inputs)
    for name in ("logits", "logits_per_image", "last_hidden_state"):
        if getattr(output, name, None) is not None:
            return getattr(output, name)
    raise AssertionError(type(output))


@contextmanager
def named(what: str) -> Iterator[None]:
    """Name the row of a loop in the message of what fails in it."""
    try:
        yield
    except Exception as error:
        raise AssertionError(f"{what}: {error}") from error


def random_vectors(model: PreTrainedModel, seed: int = 5) -> None:
    """Give every edit random vectors."""
    from red_cli.edit.attached_adapters import edits

    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for _, edit in edits(model):
            for vector in edit.parameters():
                vector.add_(torch.randn(vector.shape, generator=generator) * 0.3)


def make_language_model(folder: Path, model_type: str = "gpt2", letters: bool = False, **changes: object) -> Path:
    """A folder with a random language model and a tokenizer of words, or of letters, digits and signs.

    Texts are framed as the kind's are: nothing around a decoder's, [SEP] at the end of an encoder-decoder's.
    """
    words = [*VOCABULARY[:5], *" .-_abcdefghijklmnopqrstuvwxyz0123456789"] if letters else VOCABULARY
    tokenizer = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="[UNK]"))
    if letters:
        tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
        tokenizer.decoder = decoders.Fuse()
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    if model_type in SEQ2SEQ:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="$A [SEP]", pair="$A [SEP] $B [SEP]", special_tokens=[("[SEP]", 3)]
        )
    tiny_model(model_type, vocab_size=len(words), **changes).save_pretrained(folder)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        eos_token="[SEP]",
        model_max_length=64,
        model_input_names=["input_ids", "attention_mask"],
    ).save_pretrained(folder)
    return folder


def make_base(folder: Path, model_type: str = "bert", **changes: object) -> Path:
    """A model folder with random weights and a word-level tokenizer."""
    torch.manual_seed(0)
    model = AutoModel.from_config(tiny_config(model_type, **changes))
    model.save_pretrained(folder)
    tokenizer = Tokenizer(models.WordLevel({word: index for index, word in enumerate(VOCABULARY)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = ["input_ids", "attention_mask"]
    if model_type in ("bert", "electra", "deberta-v2"):
        names.insert(1, "token_type_ids")
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_max_length=64,
        model_input_names=names,
    ).save_pretrained(folder)
    return folder


def sentences(count: int, seed: int) -> list[dict[str, object]]:
    """Rows of text, text_pair, label (a word), score (a number)."""
    generator = random.Random(seed)
    rows = []
    for _ in range(count):
        positive = generator.random() < 0.5
        words = generator.choices(NEUTRAL, k=generator.randint(2, 12))
        words.insert(generator.randrange(len(words)), generator.choice(POSITIVE if positive else NEGATIVE))
        pair = " ".join(generator.choices(NEUTRAL, k=generator.randint(1, 6)))
        label = "positive" if positive else "negative"
        rows.append(
            {"text": " ".join(words), "text_pair": pair, "label": label, "score": positive * 2.0 + len(words) / 10}
        )
    return rows


def make_data(folder: Path, train: int = 96, validation: int = 40, test: int = 40) -> Path:
    """A folder with train.csv, validation.csv and test.csv."""
    folder.mkdir(parents=True, exist_ok=True)
    for seed, (split, count) in enumerate({"train": train, "validation": validation, "test": test}.items()):
        write_csv(folder / f"{split}.csv", sentences(count, seed))
    return folder


def write_csv(path: Path, rows: list[dict[str, object]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def read_lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]
