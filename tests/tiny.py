"""Tiny random models and data, made where a test needs them."""

from __future__ import annotations

import csv
import json
import random
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    AutoConfig,
    AutoModel,
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
    "initializer_range": 0.2,  # so large that an edit in one layer shows in the logits
}
# model_type -> configuration of a tiny model
CONFIGS: dict[str, dict] = {
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


def tiny_config(model_type: str, **changes: object) -> PretrainedConfig:
    return AutoConfig.for_model(model_type, **{**CONFIGS[model_type], **changes})


def tiny_model(model_type: str, seed: int = 0, **changes: object) -> PreTrainedModel:
    """A random classification model of three labels, in evaluation mode."""
    torch.manual_seed(seed)
    config = tiny_config(model_type, num_labels=3, **changes)
    return AutoModelForSequenceClassification.from_config(config).eval()


def tiny_inputs(rows: int = 4, length: int = 12) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(5, len(VOCABULARY), (rows, length), generator=generator)
    mask = torch.ones_like(ids)
    mask[0, length // 2 :] = 0
    return {"input_ids": ids * mask, "attention_mask": mask}


def random_vectors(model: PreTrainedModel, seed: int = 5) -> None:
    """Give every edit random vectors."""
    from red_cli.edit.model import edits

    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for _, edit in edits(model):
            for vector in edit.parameters():
                vector.add_(torch.randn(vector.shape, generator=generator) * 0.3)


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
