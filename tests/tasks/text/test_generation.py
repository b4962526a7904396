"""The generation task: tokens, loss mask, truncation, and scores of prompts and completions."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from red_cli.edit.model_kinds import DECODER, ENCODER_DECODER
from red_cli.recipe.sections import Columns, Data
from red_cli.tasks.base import Generated, Prediction
from red_cli.tasks.data.rows import Rows
from red_cli.tasks.data.splits import Source
from red_cli.tasks.text.encoded_texts import IGNORED
from red_cli.tasks.text.generation import GenerationEncoder, GenerationTask, TemplateTexts
from red_cli.tasks.text.token_loss import row_losses
from tests.failures import fails
from tests.tasks.bound import bound
from tests.tiny import make_language_model, tiny_model

END = 3


@pytest.fixture(scope="module")
def letters(tmp_path_factory: pytest.TempPathFactory):
    """A tokenizer whose tokens are letters."""
    return AutoTokenizer.from_pretrained(make_language_model(tmp_path_factory.mktemp("a") / "base", letters=True))


@pytest.fixture(scope="module")
def framing(tmp_path_factory: pytest.TempPathFactory):
    """The same for an encoder-decoder, with an end token after prompts."""
    return AutoTokenizer.from_pretrained(make_language_model(tmp_path_factory.mktemp("b") / "base", "t5", letters=True))


def rows(**columns: list) -> Rows:
    return Rows(pa.table(columns), "data/train.jsonl")


def task(model_type: str = "gpt2", data: Data | None = None, **settings: object) -> GenerationTask:
    kind = ENCODER_DECODER if model_type == "t5" else DECODER
    data = data or Data()
    templates = {part: settings.pop(part, None) for part in ("prompt_template", "completion_template")}
    texts = TemplateTexts(data.columns, **templates)
    return GenerationTask(data=data, source=Source.of(data, texts.label_column), texts=texts, kind=kind, **settings)


def shown(encoder: GenerationEncoder, tokenizer, encoded, index: int = 0) -> tuple[str, str]:
    """A row as `red check` shows it: the prompt and the completion, with | for the end token."""
    row = encoder.show(encoded, index)
    tokens = [tokenizer.decode([token]).replace("[SEP]", "|") for token in row.ids]
    return "".join(tokens[: row.masked]), "".join(tokens[row.masked :])


PAIR = {"prompt": ["ab c", "a"], "completion": ["de", "fgh"]}


def test_prompt_completion_and_end(letters, framing) -> None:
    for kind, tokenizer, expected in (("gpt2", letters, ("ab c", "de|")), ("t5", framing, ("ab c|", "de|"))):
        encoder = bound(task(kind), tokenizer)
        assert shown(encoder, tokenizer, encoder.encode(rows(**PAIR))) == expected
    whole = bound(task(train_on_prompt=True), letters)
    assert shown(whole, letters, whole.encode(rows(**PAIR))) == ("", "ab cde|")


@pytest.mark.parametrize("whole", [False, True], ids=["completion", "train_on_prompt"])
def test_batches_of_decoders(letters, whole: bool) -> None:
    encoder = bound(task(train_on_prompt=whole), letters)
    encoded = encoder.encode(rows(**PAIR))
    batch = encoder.collate(encoded, np.array([1, 0]))
    ids = [letters.convert_tokens_to_ids(list(text)) for text in ("afgh", "ab cde")]
    assert batch.inputs["input_ids"].tolist() == [[*ids[0], END, 0, 0], [*ids[1], END]]
    assert batch.inputs["attention_mask"].tolist() == [[1] * 5 + [0] * 2, [1] * 7]
    given = [0, 0] if whole else [0, 3]  # positions whose next token is the prompt's
    expected = [
        [*ids[0][1:], END, IGNORED, IGNORED, IGNORED],
        [*[IGNORED] * given[1], *ids[1][1 + given[1] :], END, IGNORED],
    ]
    assert batch.labels.tolist() == expected
    assert batch.weight == len(batch.positions) == (10 if whole else 7)
    assert encoded.labels.tolist() == ([6, 4] if whole else [3, 4])
    flat = batch.labels.flatten()
    assert (flat[batch.positions] != IGNORED).all()
    assert batch.owners.tolist() == [0] * 4 + [1] * (6 if whole else 3)


def test_batches_of_encoder_decoders_are_what_the_model_makes_of_labels(framing) -> None:
    encoder = bound(task("t5"), framing)
    batch = encoder.collate(encoder.encode(rows(**PAIR)), np.array([0, 1]))
    ids = [framing.convert_tokens_to_ids(list(text)) for text in ("ab c", "a", "de", "fgh")]
    assert batch.inputs["input_ids"].tolist() == [[*ids[0], END], [*ids[1], END, 0, 0, 0]]
    assert batch.labels.tolist() == [[*ids[2], END, IGNORED], [*ids[3], END]]
    made = tiny_model("t5").prepare_decoder_input_ids_from_labels(batch.labels)
    labelled = batch.labels != IGNORED
    assert batch.inputs["decoder_input_ids"][labelled].tolist() == made[labelled].tolist()
    assert batch.weight == 7


@pytest.mark.parametrize("model_type", ["gpt2", "llama", "t5"])
def test_the_loss_is_transformers_own(model_type: str, letters, framing) -> None:
    tokenizer = framing if model_type == "t5" else letters
    encoder, model = bound(task(model_type), tokenizer), tiny_model(model_type, vocab_size=len(tokenizer))
    batch = encoder.collate(encoder.encode(rows(**PAIR)), np.arange(2))
    inputs = {name: tensor for name, tensor in batch.inputs.items() if name != "decoder_input_ids"}
    labels = batch.labels if model_type == "t5" else batch.labels.roll(1, 1)  # theirs are shifted inside the model
    with torch.no_grad():
        mean = model(**inputs, labels=labels).loss
        torch.testing.assert_close(encoder.loss(model, batch) / batch.weight, mean, rtol=1e-6, atol=1e-6)
        sums, tokens = row_losses(model, batch)
        alone = [encoder.collate(encoder.encode(rows(**PAIR)), np.array([row])) for row in (0, 1)]
        torch.testing.assert_close(sums, torch.stack([encoder.loss(model, one) for one in alone]))
    assert tokens.tolist() == [3, 4]


CUTS = {
    # name: (longest, prompt, completion, what is seen, rows cut, ends cut)
    "fits": (9, "abcd", "efgh", ("abcd", "efgh|"), 0, 0),
    "prompt loses its beginning": (7, "abcd", "efgh", ("cd", "efgh|"), 1, 0),
    "its last token stays": (6, "abcd", "efgh", ("d", "efgh|"), 1, 0),
    "then the completion loses its end": (4, "abcd", "efgh", ("d", "efg"), 1, 1),
    "completion alone is too long": (4, "a", "efgh", ("a", "efg"), 1, 1),
}


@pytest.mark.parametrize("case", CUTS.values(), ids=CUTS.keys())
def test_what_is_cut_is_counted(letters, case: tuple) -> None:
    longest, prompt, text, expected, cut, ends = case
    encoder, table = bound(task(), letters, longest), rows(prompt=["a", prompt], completion=["b", text])
    encoded = encoder.encode(table)
    assert shown(encoder, letters, encoded, 1) == expected
    assert (encoded.truncated, encoded.ends_cut) == (cut, ends)
    refusing = bound(task(data=Data(too_long="refuse")), letters, longest)
    if cut:
        with fails("too-long", f"1 of 2 rows are longer than {longest} tokens", "row 2"):
            refusing.encode(table)
    else:
        refusing.encode(table)


def test_an_encoder_decoder_cuts_each_side_by_itself(framing) -> None:
    encoder = bound(task("t5"), framing, 5)
    encoded = encoder.encode(rows(prompt=["abcdefgh"], completion=["ijklmnop"]))
    assert shown(encoder, framing, encoded) == ("efgh|", "ijklm")
    assert (encoded.truncated, encoded.ends_cut) == (1, 1)


def byte_pairs(frame: str = "$A") -> PreTrainedTokenizerFast:
    """A tokenizer in which "ab" and " b" are tokens, and texts begin with <s>."""
    vocabulary = {word: index for index, word in enumerate(["<s>", "</s>", "a", "b", " ", "c", "ab", " b"])}
    tokenizer = Tokenizer(models.BPE(vocabulary, [("a", "b"), (" ", "b")]))
    tokenizer.decoder = decoders.Fuse()
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"<s> {frame}", special_tokens=[("<s>", 0), ("</s>", 1)]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Split("\n", "isolated")
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="</s>", bos_token="<s>", model_max_length=64)


@pytest.mark.parametrize("frame", ["$A", "$A </s>"], ids=["begins texts", "frames texts"])
def test_tokens_are_those_of_running_text_unless_a_token_crosses_the_border(frame: str) -> None:
    tokenizer = byte_pairs(frame)
    encoded = bound(task(), tokenizer).encode(rows(prompt=["ca", "ca"], completion=[" b", "bc"]))
    tokens = [tokenizer.convert_ids_to_tokens(encoded.row(index).tolist()) for index in (0, 1)]
    assert tokens[0] == ["<s>", "c", "a", " b", "</s>"]
    assert tokens[1] == [
        "<s>",
        "c",
        "a",
        "b",
        "c",
        "</s>",
    ]  # not "ab": a prompt has the same tokens when generated from
    assert encoded.prompt_lengths.tolist() == [3, 3]


def test_columns_and_templates(letters) -> None:
    table = rows(q=["ab", "{c}"], n=[1, 2], answer=["d", "e"])
    named = bound(task(data=Data(columns=Columns(prompt="q", completion="answer"))), letters)
    assert shown(named, letters, named.encode(table)) == ("ab", "d|")
    filled = task(prompt_template="n{n} {q}", completion_template=" {answer}")
    assert filled.label_column == "answer"
    encoder = bound(filled, letters)
    assert shown(encoder, letters, encoder.encode(table)) == ("n1 ab", " d|")
    prompts, completions = filled.texts.prompts(table), filled.texts.completions(table)
    assert (prompts, completions) == (["n1 ab", "n2 {c}"], [" d", " e"])


def test_another_token_may_end_texts(letters) -> None:
    encoder = bound(task(end_token="."), letters)
    assert shown(encoder, letters, encoder.encode(rows(**PAIR))) == ("ab c", "de.")
    assert encoder.special_ids.end == letters.convert_tokens_to_ids(".")


def test_tokenizers_without_an_end_or_padding(letters, tmp_path: Path) -> None:
    letters.save_pretrained(tmp_path)
    bare = AutoTokenizer.from_pretrained(tmp_path)
    bare.pad_token = None
    special_ids = bound(task(), bare).special_ids
    assert (special_ids.end, special_ids.padding) == (END, END)
    bare.eos_token = None
    assert bound(task(), bare).special_ids.end == END  # the configuration's
    with fails("unsupported-tokenizer", "task.end_token"):
        bound(task(), bare, eos_token_id=999)


FAULTS = {
    "empty completion": (
        {"prompt": ["a", "b"], "completion": ["c", " "]}, {}, "invalid-row", "row 2: the completion is empty",
    ),
    "null completion": (
        {"prompt": ["a", "b"], "completion": ["c", None]}, {}, "invalid-row", "row 2: column 'completion' is null",
    ),
    "null prompt": (
        {"prompt": [None, "b"], "completion": ["c", "d"]}, {}, "invalid-row", "row 1: column 'prompt' is null",
    ),
    "empty prompt": ({"prompt": ["a", ""], "completion": ["c", "d"]}, {}, "invalid-row", "row 2: the prompt is empty"),
    "list": (
        {"prompt": [["a"], ["b"]], "completion": ["c", "d"]}, {}, "invalid-row", "row 1: column 'prompt' is ['a']",
    ),
    "no column": ({"text": ["a"], "completion": ["c"]}, {}, "column-not-found", "'prompt'"),
    "no column of a template": (PAIR, {"prompt_template": "{question}"}, "column-not-found", "'question'"),
    "unknown end": (PAIR, {"end_token": "<stop>"}, "unsupported-tokenizer", "task.end_token"),
}  # fmt: skip


@pytest.mark.parametrize(("columns", "settings", "code", "fact"), FAULTS.values(), ids=FAULTS.keys())
def test_faults_of_rows(letters, columns: dict, settings: dict, code: str, fact: str) -> None:
    with fails(code, fact):
        bound(task(**settings), letters).encode(rows(**columns))


def test_completions_that_are_hidden_are_none(letters) -> None:
    for table in (
        rows(prompt=["a"]),
        rows(prompt=["a"], completion=[""]),
        rows(prompt=["a"], completion=pa.array([None], pa.string())),
    ):
        encoded = bound(task(), letters).encode(table)
        assert encoded.labels is None
        assert encoded.lengths.tolist() == [1]
    with fails("too-long", "data.max_length is 1"):
        bound(task(), letters, 1).encode(rows(**PAIR))


class Answers:
    """A runner that generates given texts, and keeps what it was asked."""

    context = 20

    def __init__(self, *texts: str) -> None:
        self.texts = texts
        self.notes: list[str] = []

    def forward(self, predict) -> list[Prediction]:
        return [Prediction(None, None, loss=2.0 * (row + 1), tokens=row + 1) for row in range(3)]

    def generate(self, prompts, ends, max_new_tokens: int) -> list[Generated]:
        self.prompts, self.max_new_tokens = prompts, max_new_tokens
        return [Generated(text, text != "cut") for text in self.texts]

    def note(self, text: str) -> None:
        self.notes.append(text)


def test_scores_count_tokens_once_and_prompts_once(letters) -> None:
    completion = task()
    encoder = bound(completion, letters)
    encoded = encoder.encode(rows(prompt=["a", "a", "b"], completion=["x", " y ", "z"]))
    answers = encoder.answer(encoded, Answers("y", "y", "cut"), final=True)
    scores = completion.score(answers, None)
    assert scores == pytest.approx(
        {"loss": 12 / 6, "perplexity": np.exp(2), "exact_match": 1 / 2, "unfinished": 1}
    )  # a has two completions, one of them is what was written
    assert answers[1].to_json(1) == {
        "index": 1, "prediction": "y", "label": " y ", "prompt": "a", "finished": True, "loss": 4.0, "tokens": 2,
    }  # fmt: skip
    on_the_way = encoder.answer(encoded, Answers(), final=False)
    assert completion.score(on_the_way, None).keys() == {"loss", "perplexity"}
    choosing = replace(completion, metric="exact_match")
    answers = bound(choosing, letters).answer(encoded, Answers("x", "x", "z"), final=False)
    assert "exact_match" in choosing.score(answers, None)


def test_prompts_leave_room_for_what_is_generated(letters) -> None:
    completion = replace(task(), max_new_tokens=15)
    encoder = bound(completion, letters)
    encoded = encoder.encode(rows(prompt=["abcdefgh", "xy"], completion=["z", "z"]))
    passes = Answers("", "")
    passes.forward = lambda predict: [Prediction(None, None, loss=1.0, tokens=1)] * 2
    encoder.answer(encoded, passes, final=True)
    assert [letters.decode(ids) for ids in passes.prompts] == ["defgh", "xy"]
    assert passes.max_new_tokens == 15
    assert passes.notes == ["1 of 2 prompts lost their beginning: longer than 5 tokens."]
    refusing = bound(replace(completion, data=Data(too_long="refuse")), letters)
    encoded = refusing.encode(rows(prompt=["abcdefgh", "xy"], completion=["z", "z"]))
    with fails("too-long", "1 of 2 rows are longer than 5 tokens", "row 1"):
        refusing.answer(encoded, passes, final=True)
    greedy = bound(replace(completion, max_new_tokens=20), letters)
    encoded = greedy.encode(rows(**PAIR))
    with fails("too-long", "max_new_tokens is 20", "20 tokens"):
        greedy.answer(encoded, passes, final=True)


def test_one_task_is_bound_to_several_bases(letters) -> None:
    """The state of a base is in its encoder: encoders of one task are independent."""
    completion = task()
    long, short = bound(completion, letters), bound(completion, letters, 5)
    lengths = [encoder.encode(rows(**PAIR)).lengths.tolist() for encoder in (long, short, long)]
    assert lengths == [[7, 5], [5, 5], [7, 5]]


def test_rows_without_a_text_are_refused_or_left_out(tmp_path: Path) -> None:
    good = [{"prompt": "ab", "completion": "c"}, {"prompt": 1, "completion": 2}]
    bad = [
        {"prompt": None, "completion": "c"},
        {"prompt": "ab", "completion": " "},
        {"prompt": "ab", "completion": None},
        {"prompt": "ab", "completion": ""},
    ]
    (tmp_path / "train.csv").write_text("prompt,completion\nab,c\nab,\n ,d\n")
    for split, rows_ in {"validation": [good[0], *bad], "test": [{"prompt": "ab", "completion": None}]}.items():
        (tmp_path / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows_))
    refusing, dropping = (task(data=Data(path=str(tmp_path), bad_rows=choice)) for choice in ("refuse", "drop"))
    with fails("invalid-row", "train.csv, row 2", "the completion is empty", "data.bad_rows=drop"):
        refusing.load(1, ("train",))
    with fails(
        "invalid-row", "validation.jsonl", "4 of 5", "(row 2)", "(rows 3, 5)", "(row 4)", "row 2: column 'prompt'"
    ):
        refusing.load(1, ("validation",))
    kept = dropping.load(1, ("train", "validation")).rows
    assert kept["train"].column("completion") == ["c", "d"]
    assert kept["validation"].column("completion") == ["c"]
    assert sum(kept["validation"].left_out.values()) == 4
    assert refusing.load(1, ("test",)).rows["test"].table.num_rows == 1  # to be completed
