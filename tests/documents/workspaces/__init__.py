"""Folders in which the commands of a page run, and what makes their files: small data and tiny bases under hub names.

A module here bears the name of its page, `text_classification.py` for `text_classification.md`, and has

    def prepare(folder: Path) -> None   # writes what the page names
    EXTRA_KEYS = {"train tickets.csv": ["--yes", "train.max_steps=2"]}   # optional: added to commands that begin so

A page without a module runs in an empty folder. `red` and transformers read a local folder `google-t5/t5-small`, where
there is one in the folder of the command, instead of the hub's model of that name.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import AutoModel, AutoModelForCausalLM, AutoModelForSeq2SeqLM, PreTrainedTokenizerFast

from tests.tiny import DECODERS, SEQ2SEQ, tiny_config, write_csv

TICKETS = {
    "billing": ["I was charged twice.", "Please send me the invoice.", "My refund has not arrived."],
    "delivery": ["Where is my parcel?", "The parcel is late.", "Please change my address."],
    "technical": ["The app does not start.", "I cannot log in.", "The page shows an error."],
}
_GREETINGS = ["", "Hello. ", "Good morning. ", "Hi there. "]
_CLOSINGS = ["", " Thank you.", " Best regards.", " It is urgent."]
_QUESTIONS = {
    "Where is my parcel?": "It arrives tomorrow.",
    "I was charged twice.": "We return the second payment.",
    "I cannot log in.": "Please choose a new password.",
}
_SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
_CHAT_TEMPLATE = (
    "{% for message in messages %}{{ message.role + ': ' + message.content + eos_token }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
)
_LENGTH = 2048


def ticket_rows(count: int, seed: int = 0) -> list[dict[str, object]]:
    """Rows with `text` and `label`, of three classes in turn."""
    draw = random.Random(seed)
    labels = list(TICKETS)
    return [
        {
            "text": draw.choice(_GREETINGS) + draw.choice(TICKETS[labels[index % 3]]) + draw.choice(_CLOSINGS),
            "label": labels[index % 3],
        }
        for index in range(count)
    ]


def write_tickets(path: Path, count: int = 96, columns: Sequence[str] = ("text", "label"), seed: int = 0) -> Path:
    """A CSV file of tickets with their topic; `columns` are its names for text and label."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_csv(path, [dict(zip(columns, row.values(), strict=True)) for row in ticket_rows(count, seed)])


def write_ticket_splits(folder: Path) -> Path:
    """A folder with train.csv, validation.csv and test.csv of tickets."""
    for seed, (split, count) in enumerate({"train": 96, "validation": 24, "test": 24}.items()):
        write_tickets(folder / f"{split}.csv", count, seed=seed)
    return folder


def conversations(count: int, seed: int = 0) -> list[dict[str, object]]:
    """Rows with `messages` of a user and the assistant, one or two turns each."""
    draw = random.Random(seed)
    rows = []
    for _ in range(count):
        messages = []
        for question, answer in draw.sample(sorted(_QUESTIONS.items()), draw.randint(1, 2)):
            messages += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
        rows.append({"messages": messages})
    return rows


def prompts(count: int, seed: int = 0) -> list[dict[str, object]]:
    """Rows with `prompt` and `completion`."""
    draw = random.Random(seed)
    return [
        dict(zip(("prompt", "completion"), draw.choice(sorted(_QUESTIONS.items())), strict=True)) for _ in range(count)
    ]


def write_jsonl(path: Path, rows: Iterable[dict[str, object]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def write_jsonl_splits(folder: Path, rows: Sequence[dict[str, object]]) -> Path:
    """A folder with train.jsonl, validation.jsonl and test.jsonl: two thirds, a sixth and a sixth of the rows."""
    sixth = len(rows) // 6
    write_jsonl(folder / "validation.jsonl", rows[:sixth])
    write_jsonl(folder / "test.jsonl", rows[sixth : 2 * sixth])
    write_jsonl(folder / "train.jsonl", rows[2 * sixth :])
    return folder


def write_model(folder: Path, model_type: str) -> Path:
    """A tiny random base, any model type of tests/tiny.py, whose tokenizer reads any text.

    `write_model(folder / "distilbert/distilbert-base-uncased", "distilbert")`. A decoder's
    tokenizer has a chat template.
    """
    is_decoder, is_seq2seq = model_type in DECODERS, model_type in SEQ2SEQ
    ends = "[SEP]" if is_seq2seq else "" if is_decoder else "[CLS]"
    tokenizer = _byte_level(ends)
    changes: dict[str, object] = {"vocab_size": tokenizer.get_vocab_size()}
    config = tiny_config(model_type)
    for name in ("max_position_embeddings", "n_positions", "max_seq_len"):
        if name in config.to_diff_dict() or name in config.attribute_map:
            changes[config.attribute_map.get(name, name)] = _LENGTH + 8
    auto = AutoModelForCausalLM if is_decoder else AutoModelForSeq2SeqLM if is_seq2seq else AutoModel
    torch.manual_seed(0)
    auto.from_config(tiny_config(model_type, **changes)).save_pretrained(folder)
    names = ["input_ids", "attention_mask"]
    if model_type in ("bert", "electra", "deberta-v2"):
        names.insert(1, "token_type_ids")
    special = {"bos_token": "[CLS]", "eos_token": "[SEP]"} if is_decoder or is_seq2seq else {"mask_token": "[MASK]"}
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]",
        model_max_length=_LENGTH, model_input_names=names, **special,
    )  # fmt: skip
    if is_decoder:
        fast.chat_template = _CHAT_TEMPLATE
    fast.save_pretrained(folder)
    return folder


def _byte_level(ends: str) -> Tokenizer:
    """A byte-level tokenizer that knows the words above. `ends` names the special token at its texts' outer end."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=512, special_tokens=_SPECIAL, initial_alphabet=alphabet, show_progress=False
    )
    texts = [*(text for group in TICKETS.values() for text in group), *_GREETINGS, *_CLOSINGS, *_QUESTIONS.values()]
    tokenizer.train_from_iterator([text for text in texts for _ in range(3)], trainer)
    if ends:
        single, pair = {
            "[CLS]": ("[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1"),
            "[SEP]": ("$A [SEP]", "$A [SEP] $B [SEP]"),
        }[ends]
        tokenizer.post_processor = processors.TemplateProcessing(
            single=single, pair=pair, special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
        )
    return tokenizer
