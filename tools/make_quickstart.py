"""Make the quickstart's base model and its labelled set, from nothing but the grammar beside this file.

Three things are made, all from one seed:

1. an English-like corpus of product reviews, written by quickstart_corpus.py. It holds no labels;
2. a byte-level BPE tokenizer and a small RoBERTa encoder, pretrained on that corpus by masked-language modelling;
3. a labelled set: a review, and whether it comes down on the positive or the negative side. Each review concedes a
   point that goes the other way ("although the zip shines, ..."), and many points are made by denying the opposite.
   The words that carry sentiment come from three disjoint lists, one per split, so a word that decides a test label
   was never seen with a label: what it means has to come from pretraining.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import random
import time
from pathlib import Path

import torch
from quickstart_corpus import (
    EVERY_WORD,
    SPLIT_ROWS,
    SPLIT_WORDS,
    check_splits,
    documents,
    labelled_rows,
    mixed_document,
    simple_document,
    single_document,
    tokens,
)
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast, RobertaConfig, RobertaForMaskedLM


def train_tokenizer(texts: list[str], vocab_size: int, max_length: int) -> PreTrainedTokenizerFast:
    """A lower-casing byte-level BPE (so no text is unknown to it) that encodes pairs as RoBERTa does."""
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    core = Tokenizer(models.BPE())
    core.normalizer = normalizers.Lowercase()
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    core.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    core.train_from_iterator(texts, trainer)
    ends = [(token, core.token_to_id(token)) for token in ("<s>", "</s>")]
    core.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=ends
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        model_max_length=max_length,
        padding_side="right",
        truncation_side="right",
        bos_token="<s>",
        cls_token="<s>",
        pad_token="<pad>",
        eos_token="</s>",
        sep_token="</s>",
        unk_token="<unk>",
        mask_token="<mask>",
        model_input_names=["input_ids", "attention_mask"],
    )


def encode(tokenizer: PreTrainedTokenizerFast, pairs: list[tuple[str, str]]) -> list[list[int]]:
    return tokenizer([first for first, _ in pairs], [second for _, second in pairs], truncation=True)["input_ids"]


def padded(rows: list[list[int]], pad: int) -> torch.Tensor:
    width = max(map(len, rows))
    return torch.tensor([row + [pad] * (width - len(row)) for row in rows])


def cooccurrence_embeddings(rows: list[list[int]], vocab: int, width: int, std: float) -> torch.Tensor:
    """Starting word embeddings: the singular vectors of the words' positive pointwise mutual information.

    Words kept in like company start out near one another, as in latent semantic analysis. From random embeddings, some
    2,000 steps of the same masked-language modelling had not yet told good words from bad ones when this was tried.
    """
    present = torch.zeros(len(rows), vocab)
    for i, row in enumerate(rows):
        present[i, row] = 1.0
    counts = present.T @ present
    alone = counts.diag().clamp(min=1.0)
    information = (counts.clamp(min=0.5) * len(rows) / (alone[:, None] * alone[None, :])).log().clamp(min=0.0)
    information *= counts > 5
    information.fill_diagonal_(0.0)
    left, values, _ = torch.linalg.svd(information)
    vectors = left[:, :width] * values[:width].sqrt()
    vectors += 0.1 * vectors.std() * torch.randn(vectors.shape)  # tells apart words that no company tells apart
    return vectors * std * math.sqrt(width) / vectors.norm(dim=1, keepdim=True)


def mask_tokens(
    ids: torch.Tensor, tokenizer: PreTrainedTokenizerFast, generator: torch.Generator, rates: tuple[float, float]
) -> tuple[torch.Tensor, torch.Tensor]:
    """BERT's masking (80 % <mask>, 10 % a random token, 10 % as it was), at a rate drawn for each row from `rates`."""
    low, high = rates
    rate = low + (high - low) * torch.rand(len(ids), 1, generator=generator)
    special = torch.isin(ids, torch.tensor(tokenizer.all_special_ids))
    chosen = (torch.rand(ids.shape, generator=generator) < rate) & ~special
    fate = torch.rand(ids.shape, generator=generator)
    shuffled = torch.randint(len(tokenizer.all_special_ids), len(tokenizer), ids.shape, generator=generator)
    inputs = torch.where(chosen & (fate < 0.8), tokenizer.mask_token_id, ids)
    inputs = torch.where(chosen & (fate >= 0.9), shuffled, inputs)
    return inputs, chosen


def masked_logits(model: RobertaForMaskedLM, inputs: torch.Tensor, chosen: torch.Tensor, pad: int) -> torch.Tensor:
    """The model's guesses at the chosen places only (the rest of the output layer's work would be thrown away)."""
    hidden = model.roberta(inputs, attention_mask=(inputs != pad).long()).last_hidden_state
    return model.lm_head(hidden[chosen])


def pretrain(
    model: RobertaForMaskedLM,
    tokenizer: PreTrainedTokenizerFast,
    stages: list[list[list[int]]],
    batch_size: int,
    lr: float,
    seed: int,
) -> None:
    generator = torch.Generator().manual_seed(seed)
    rng = random.Random(seed)
    pad = tokenizer.pad_token_id
    total = sum(math.ceil(len(rows) / batch_size) for rows in stages)
    warm = max(1, total // 20)
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, betas=(0.9, 0.98), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / warm, (total - step) / max(1, total - warm))
    )
    model.train()
    started, step, recent = time.perf_counter(), 0, 0.0
    for rows in stages:
        # Rows of like length share a batch, which saves the time that padding would take.
        order = sorted(range(len(rows)), key=lambda i: (len(rows[i]), rng.random()))
        batches = [order[i : i + batch_size] for i in range(0, len(order), batch_size)]
        rng.shuffle(batches)
        for batch in batches:
            ids = padded([rows[i] for i in batch], pad)
            inputs, chosen = mask_tokens(ids, tokenizer, generator, (0.1, 0.3))
            if not chosen.any():  # a very small last batch may have nothing to guess
                continue
            loss = torch.nn.functional.cross_entropy(masked_logits(model, inputs, chosen, pad), ids[chosen])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            step += 1
            recent += loss.item()
            if step % 500 == 0 or step == total:
                spent = time.perf_counter() - started
                print(f"step {step}/{total}  loss {recent / ((step - 1) % 500 + 1):.3f}  {spent:.0f} s", flush=True)
                recent = 0.0
    model.eval()


@torch.no_grad()
def held_out(
    model: RobertaForMaskedLM, tokenizer: PreTrainedTokenizerFast, rows: list[list[int]], seed: int
) -> tuple[float, float]:
    """Masked-language-modelling loss and accuracy at 15 % masking."""
    generator = torch.Generator().manual_seed(seed)
    loss, right, count = 0.0, 0, 0
    for start in range(0, len(rows), 200):
        ids = padded(rows[start : start + 200], tokenizer.pad_token_id)
        inputs, chosen = mask_tokens(ids, tokenizer, generator, (0.15, 0.15))
        logits, wanted = masked_logits(model, inputs, chosen, tokenizer.pad_token_id), ids[chosen]
        loss += torch.nn.functional.cross_entropy(logits, wanted, reduction="sum").item()
        right += int((logits.argmax(-1) == wanted).sum())
        count += len(wanted)
    return loss / count, right / count


def write_labelled(folder: Path, labelled: dict[str, list[dict[str, str]]]) -> None:
    for split, rows in labelled.items():
        with (folder / f"{split}.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, ["review", "label"], lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)


def save_base(folder: Path, model: RobertaForMaskedLM, tokenizer: PreTrainedTokenizerFast) -> None:
    """Weights in float16 to halve the folder; the configuration asks for float32, which is what they load as."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save_pretrained(folder)
    model.half().save_pretrained(folder)
    (folder / "model.safetensors").chmod(0o644)  # safetensors writes it for its owner alone
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config["dtype"] = "float32"
    (folder / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


CARD = """---
license: apache-2.0
language: en
library_name: transformers
pipeline_tag: fill-mask
tags: [roberta, masked-lm, synthetic]
---

# Quickstart base

A very small RoBERTa encoder for trying out the toolkit without access to any hub. `tools/make_quickstart.py` made it
and the labelled set next to it, from seed {seed}; nothing was copied or downloaded.

## How it was made

- **Corpus**: {documents} documents ({words} words) of English-like product reviews, written by a small grammar and a
  word list ({vocabulary} distinct words, {sentiment} of which carry sentiment). Most documents are a review and then a
  remark of its writer ("I love it.", "It let me down."), as in reviews that people write. The corpus holds no labels
  and no review of the labelled set, but its remarks agree with its reviews: the base learns meaning from them.
- **Order**: short documents of one mind first ({simple}), then single clauses ({single}), then the mix ({mixed}).
- **Tokenizer**: lower-casing byte-level BPE, {tokens} tokens.
- **Model**: {layers} layers of width {width}, {parameters} parameters with the masked-language-modelling head; word
  embeddings start from the singular vectors of the corpus's word co-occurrences. Post-norm, no dropout.
- **Training**: masked-language modelling, one pass, batch {batch}, AdamW at {lr:g} with warm-up and linear decay.
- **Held-out text** ({held} documents of the mix, 15 % masked): loss {loss:.3f} nats, accuracy {accuracy:.1%}.
- Weights are stored as float16; the configuration has them load as float32.

## The labelled set

`train.csv` ({train} rows), `validation.csv` ({validation}) and `test.csv` ({test}): columns `review` and `label`
(`positive` or `negative`, half each). Every review makes one point and concedes another that goes the other way
("although", "but", "never mind that"). Its label is that of the point it does not concede. The words that carry
sentiment are disjoint between the three splits, which the script checks; all of them occur in the pretraining corpus.
Grammar, connectives, negations, products and parts are shared.

The task was made to separate methods. Every review concedes a point, and 40 % of the clauses deny the opposite;
both are rarer in the corpus. These shares were chosen after seeing that a linear probe then falls well short of RED,
on other draws of the splits and an earlier base. The length of pretraining was chosen the same way: with 100,000
documents in the last stage RED came to 88 % and the best probe to 75 %. How far apart the methods are here says little
about other tasks.

## Limits

It knows a few hundred words and one kind of sentence. It is of no use on real text, and figures on this set say nothing
about real reviews: the set is there to show the toolkit at work. The word list calls every word good or bad whatever it
describes, which English does not.

Licence: Apache-2.0.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    here = Path(__file__).resolve().parent.parent / "recipes" / "quickstart"
    parser.add_argument("--output", type=Path, default=here, help="folder for base/ and the three CSV files")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--simple", type=int, default=12_000, help="documents of the first stage")
    parser.add_argument("--single", type=int, default=40_000, help="documents of the second stage")
    parser.add_argument("--mixed", type=int, default=140_000, help="documents of the third stage")
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--lr", type=float, default=1e-3)
    arguments = parser.parse_args()
    seed, held = arguments.seed, 2000

    labelled = {split: labelled_rows(seed, split) for split in SPLIT_WORDS}
    exclude = {row["review"] for rows in labelled.values() for row in rows}
    kinds = {"simple": simple_document, "single": single_document, "mixed": mixed_document}
    stages = {
        name: list(documents(f"{seed}-{name}", kind, getattr(arguments, name), exclude)) for name, kind in kinds.items()
    }
    pairs = [pair for stage in stages.values() for pair in stage]
    check_splits(labelled, pairs)
    arguments.output.mkdir(parents=True, exist_ok=True)
    write_labelled(arguments.output, labelled)

    tokenizer = train_tokenizer([" ".join(pair) for pair in pairs], vocab_size=1200, max_length=64)
    torch.manual_seed(seed)
    config = RobertaConfig(
        vocab_size=len(tokenizer),
        hidden_size=arguments.width,
        num_hidden_layers=arguments.layers,
        num_attention_heads=4,
        intermediate_size=4 * arguments.width,
        max_position_embeddings=66,
        type_vocab_size=1,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        initializer_range=0.05,
        layer_norm_eps=1e-5,
    )
    model = RobertaForMaskedLM(config)
    rows = [encode(tokenizer, stage) for stage in stages.values()]
    start = cooccurrence_embeddings(rows[0], len(tokenizer), arguments.width, config.initializer_range)
    model.roberta.embeddings.word_embeddings.weight.data.copy_(start)
    started = time.perf_counter()
    pretrain(model, tokenizer, rows, arguments.batch_size, arguments.lr, seed)
    print(f"pretrained in {time.perf_counter() - started:.0f} s", flush=True)

    unseen = list(documents(f"{seed}-held out", mixed_document, held, exclude | {first for first, _ in pairs}))
    loss, accuracy = held_out(model, tokenizer, encode(tokenizer, unseen), seed)
    print(f"held-out masked-language modelling: loss {loss:.3f}, accuracy {accuracy:.4f}")
    texts = [text for pair in pairs for text in pair]
    card = CARD.format(
        seed=seed,
        documents=len(pairs),
        words=sum(len(text.split()) for text in texts),
        vocabulary=len(tokens(texts)),
        sentiment=len(EVERY_WORD.all()),
        simple=len(stages["simple"]),
        single=len(stages["single"]),
        mixed=len(stages["mixed"]),
        tokens=len(tokenizer),
        layers=arguments.layers,
        width=arguments.width,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        batch=arguments.batch_size,
        lr=arguments.lr,
        held=held,
        loss=loss,
        accuracy=accuracy,
        **SPLIT_ROWS,
    )
    save_base(arguments.output / "base", model, tokenizer)
    (arguments.output / "base" / "README.md").write_text(card, encoding="utf-8")
    size = sum(path.stat().st_size for path in (arguments.output / "base").iterdir())
    print(f"{arguments.output / 'base'}: {size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
