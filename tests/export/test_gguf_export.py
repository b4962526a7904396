"""A GGUF export holds the biases, tokenizer and ends of its run; llama.cpp computes what transformers does."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

from red_cli import RedConfig, attach, save_adapter
from red_cli.edit.architectures import ARCHITECTURES
from red_cli.errors import RunFailed, UserError
from red_cli.export.export import export, open_source
from red_cli.export.gguf_vocabulary import _LLAMA3
from red_cli.runs.events import NullListener
from tests.extras import needs_extra
from tests.tiny import random_vectors, tiny_model

TEXTS = [
    "The film was 1234 times better, isn't it?",
    "  two  spaces\n\n\tand tabs ",
    "Grüße an die Bären, 東京 and ½ 🙂",
    "<|turn|>user\nsay 3<|over|>\n<|turn|>assistant\n",
]
TEMPLATE = "{% for m in messages %}<|turn|>{{ m.role }}\n{{ m.content }}<|over|>\n{% endfor %}"
SPECIAL = ["<|endoftext|>", "<|turn|>", "<|over|>"]


def byte_level(
    *splits: pre_tokenizers.PreTokenizer, gpt2: bool = False, ignore_merges: bool = False, composed: bool = False
) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE(ignore_merges=ignore_merges))
    bytes_ = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=gpt2)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*splits, bytes_]) if splits else bytes_
    tokenizer.decoder = decoders.ByteLevel()
    if composed:
        tokenizer.normalizer = normalizers.NFC()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=320, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(TEXTS * 4, trainer)
    return tokenizer


def sentencepiece(prepend: bool = True, left_out: int = 0) -> Tokenizer:
    """A tokenizer as transformers makes it of SentencePiece's pieces: each pair that makes a piece is a merge."""
    trained = byte_level()
    spaced = " ".join(TEXTS[:2]).replace(" ", "▁")
    letters = sorted(set(spaced))
    words = [text.replace("Ġ", "▁") for text in trained.get_vocab() if text.isascii() or "Ġ" in text]
    pieces = sorted(
        {word for word in words if len(word) > 1 and set(word) <= set(letters)}, key=lambda word: (len(word), word)
    )
    vocabulary = ["<unk>", "<s>", *SPECIAL, *(f"<0x{byte:02X}>" for byte in range(256)), *pieces, *letters]
    known = set(letters) | set(pieces)
    pairs = [(piece[:at], piece[at:]) for piece in pieces for at in range(1, len(piece))]
    merges = [pair for pair in pairs if known.issuperset(pair)][left_out:]
    tokenizer = Tokenizer(
        models.BPE({token: index for index, token in enumerate(vocabulary)}, merges, byte_fallback=True,
                   fuse_unk=True, unk_token="<unk>")
    )  # fmt: skip
    if prepend:
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace("▁", prepend_scheme="never", split=False)
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return tokenizer


def split(pattern: str) -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.Split(Regex(pattern), "isolated")


# llama.cpp's name of a tokenizer -> the tokenizer
TOKENIZERS: dict[str, Callable[[], Tokenizer]] = {
    "gpt-2": lambda: byte_level(gpt2=True),
    "smollm": lambda: byte_level(pre_tokenizers.Digits(individual_digits=True), gpt2=True),
    "llama-bpe": lambda: byte_level(split(_LLAMA3), ignore_merges=True),
    "dbrx": lambda: byte_level(split(_LLAMA3)),
    "qwen2": lambda: byte_level(split(_LLAMA3.replace("{1,3}", "")), composed=True),
    "SentencePiece": sentencepiece,
    "SentencePiece, no space": lambda: sentencepiece(prepend=False),
    "an unknown split": lambda: byte_level(split("x+")),
    "words": lambda: Tokenizer(models.WordLevel({"<unk>": 0}, unk_token="<unk>")),
    "incomplete merges": lambda: sentencepiece(left_out=1),
}
LLAMA3_ROPE = {
    "rope_type": "llama3", "rope_theta": 1e4, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}  # fmt: skip
# model type, tokenizer, changes of the configuration, dtype
MODELS = [
    ("llama", "smollm", {"tie_word_embeddings": True}, "float32"),
    ("llama", "llama-bpe", {"rope_parameters": LLAMA3_ROPE, "head_dim": 16}, "float32"),
    ("llama", "gpt-2", {}, "bfloat16"),
    ("mistral", "SentencePiece", {"sliding_window": 48}, "float32"),
    ("mistral", "SentencePiece, no space", {"sliding_window": None}, "float16"),
    ("qwen2", "qwen2", {"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4}}, "float32"),
    ("phi3", "dbrx", {"tie_word_embeddings": True}, "float32"),
    ("smollm3", "smollm", {"no_rope_layers": [1, 1, 1]}, "float32"),
]


def make_base(folder: Path, model_type: str, tokenizer: str, **changes: object) -> Path:
    backend = TOKENIZERS[tokenizer]()
    names = {"bos_token": "<s>", "unk_token": "<unk>"} if tokenizer.startswith("Sentence") else {}
    fast = PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token="<|endoftext|>", additional_special_tokens=SPECIAL[1:], **names
    )
    fast.chat_template = TEMPLATE
    end = fast.convert_tokens_to_ids("<|over|>")
    model = tiny_model(
        model_type, vocab_size=len(fast) + 3, eos_token_id=[fast.eos_token_id, end], bos_token_id=None,
        pad_token_id=None, **changes,
    )  # fmt: skip
    model.save_pretrained(folder / "base")
    fast.save_pretrained(folder / "base")
    attach(model, RedConfig(positions=list(ARCHITECTURES[model_type].positions)))
    random_vectors(model)
    model.config._name_or_path = str(folder / "base")
    save_adapter(model, folder / "adapter")
    return folder / "adapter"


def exported(adapter: Path, output: Path, form: str, dtype: str | None = None) -> dict:
    source = open_source(adapter, None, str(adapter.parent / "base"))
    return export(source, output, form, dtype, None, None, NullListener())


@contextmanager
def llama_cpp(file: Path) -> Iterator[Callable[..., dict]]:
    """Requests to llama.cpp's server on a GGUF file."""
    xllamacpp = pytest.importorskip("xllamacpp")
    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(file)
    parameters.n_ctx, parameters.n_parallel, parameters.cpuparams.n_threads = 64, 1, 1
    parameters.warmup = False
    server = xllamacpp.Server(parameters)

    def ask(path: str, **body: object) -> dict:
        request = urllib.request.Request(
            f"{server.listening_address}/{path}", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request) as answer:
            return json.load(answer)

    yield ask


@pytest.mark.slow
@needs_extra("gguf")
@pytest.mark.parametrize(("model_type", "tokenizer", "changes", "dtype"), MODELS, ids=lambda value: str(value)[:24])
def test_llama_cpp_computes_what_transformers_does(
    tmp_path: Path, model_type: str, tokenizer: str, changes: dict, dtype: str
) -> None:
    adapter = make_base(tmp_path, model_type, tokenizer, **changes)
    result = exported(adapter, tmp_path / "model.gguf", "gguf", dtype)
    assert result["gguf"]["tokenizer"] == tokenizer.split(",")[0]
    assert ("NFC" in result["gguf"]["remark"]) == (tokenizer == "qwen2")
    plain = AutoTokenizer.from_pretrained(tmp_path / "base")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "base", dtype=torch.float32)
    attach(model, RedConfig(positions=list(ARCHITECTURES[model_type].positions)))
    random_vectors(model)
    tolerance = 0.02 if dtype == "float32" else 0.3  # llama.cpp's cache of keys and values is float16
    printable = plain.convert_tokens_to_ids("a")
    with llama_cpp(tmp_path / "model.gguf") as ask, torch.inference_mode():
        for text in TEXTS:
            tokens = plain(text)["input_ids"]
            assert ask("tokenize", content=text, add_special=True)["tokens"] == tokens
            expected = model(torch.tensor([tokens])).logits[0, -1].log_softmax(-1).numpy()
            # The server drops the figures of tokens without text. The bias does not change those it gives.
            answer = ask("completion", prompt=tokens, n_predict=1, n_probs=len(expected), logit_bias=[[printable, 1e3]])
            found = np.full(len(expected), -np.inf)
            for entry in answer["completion_probabilities"][0]["top_logprobs"]:
                found[entry["id"]] = entry["logprob"]
            assert np.abs(found - expected)[expected > -10].max() < tolerance
            if dtype == "float32":
                answer = ask("completion", prompt=tokens, n_predict=8, temperature=0, return_tokens=True)
                written = model.generate(torch.tensor([tokens]), max_new_tokens=8, do_sample=False)[0, len(tokens) :]
                assert answer["tokens"] == written.tolist()


# (model type, tokenizer, changes of the configuration, what the message names)
REFUSED = {
    "another architecture": ("gpt2", "smollm", {}, "gpt2"),
    "an encoder": ("bert", "smollm", {}, "bert"),
    "layers without positions": ("smollm3", "smollm", {"no_rope_layer_interval": 2}, "no_rope_layers"),
    "biases of the base": (
        "smollm3", "smollm", {"no_rope_layers": [1, 1, 1], "attention_bias": True}, "biases already"
    ),
    "positions that are computed otherwise": (
        "llama", "smollm", {"rope_parameters": {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}}, "dynamic",
    ),
    "another activation": ("llama", "smollm", {"hidden_act": "gelu"}, "gelu"),
    "an unknown splitting of words": ("llama", "an unknown split", {}, "x+"),
    "no bytes": ("llama", "words", {}, "WordLevel"),
    "merges that are not SentencePiece's": ("llama", "incomplete merges", {}, "SentencePiece"),
}  # fmt: skip


@needs_extra("gguf")
@pytest.mark.parametrize("name", REFUSED)
def test_what_llama_cpp_computes_otherwise_is_refused(tmp_path: Path, name: str) -> None:
    model_type, tokenizer, changes, fact = REFUSED[name]
    adapter = make_base(tmp_path, model_type, tokenizer, **changes)
    with pytest.raises(UserError) as refused:
        exported(adapter, tmp_path / "out.gguf", "gguf")
    assert refused.value.code in ("unsupported-model", "unsupported-tokenizer")
    assert fact in str(refused.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["adapter", "base"]


@needs_extra("gguf")
def test_every_weight_is_read_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from red_cli.export import gguf_weights
    from red_cli.export.gguf_model import write_gguf

    folder = make_base(tmp_path, "llama", "smollm").parent / "base"
    assert write_gguf(folder, tmp_path / "whole.gguf", "whole").tensors == len(load_file(folder / "model.safetensors"))
    monkeypatch.setattr(
        gguf_weights.GgufTensor, "reordered", lambda tensor, values, back=False: values[::-1] if back else values
    )
    with pytest.raises(RunFailed) as failed:
        write_gguf(folder, tmp_path / "turned.gguf", "turned")
    assert failed.value.code == "verification-failed"


@needs_extra("gguf")
def test_a_gguf_export_is_a_file_or_a_folder_and_is_whole_or_absent(
    red, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import gguf

    adapter = make_base(tmp_path, "llama", "smollm")
    command = ("export", adapter, "--base", tmp_path / "base", "--json", "--output")
    assert red(*command, tmp_path / "a.gguf").json["error"]["code"] == "invalid-option"
    for output, files in (("a.gguf", None), ("folder", ["README.md", "model.gguf"])):
        outcome = red(*command, tmp_path / output, "--format", "gguf")
        assert outcome.code == 0, outcome.err
        assert outcome.json["largest_difference"] < 1e-4
        assert files is None or sorted(path.name for path in (tmp_path / output).iterdir()) == files
        file = tmp_path / output if files is None else tmp_path / output / "model.gguf"
        fields = gguf.GGUFReader(file).fields
        assert {int(fields[f"tokenizer.ggml.{key}_token_id"].parts[-1][0]) for key in ("eos", "eot")} == {0, 2}
        assert red(*command, tmp_path / output, "--format", "gguf").json["error"]["code"] == "output-exists"
    monkeypatch.setattr(
        gguf.GGUFWriter, "write_tensor_data", lambda self, tensor: (_ for _ in ()).throw(OSError(28, "full"))
    )
    assert red(*command, tmp_path / "b.gguf", "--format", "gguf").json["error"]["code"] == "disk-full"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.gguf", "adapter", "base", "folder"]
