"""Labels and numbers as text: written, read back and scored; other texts count as wrong."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from sklearn.metrics import f1_score, matthews_corrcoef
from transformers import AutoTokenizer

from red_cli.edit.model_kinds import ENCODER_DECODER
from red_cli.recipe.sections import Columns, Data
from red_cli.tasks.base import Generated
from red_cli.tasks.data.rows import Rows
from red_cli.tasks.labels.targets import LabelTarget, RegressionTarget
from red_cli.tasks.labels.task import LabelTask
from red_cli.tasks.labels.text_to_text import AnswerTexts
from red_cli.tasks.presets.glue import glue_task
from tests.failures import fails
from tests.tasks.bound import bound
from tests.tiny import make_language_model, tiny_model

MNLI = ["entailment", "neutral", "contradiction"]


@pytest.fixture(scope="module")
def letters(tmp_path_factory: pytest.TempPathFactory):
    return AutoTokenizer.from_pretrained(make_language_model(tmp_path_factory.mktemp("a") / "base", "t5", letters=True))


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory):
    return AutoTokenizer.from_pretrained(make_language_model(tmp_path_factory.mktemp("b") / "base", "t5"))


def rows(**columns: list) -> Rows:
    return Rows(pa.table(columns), "data/train.csv")


def text_to_text(
    answers: LabelTarget | RegressionTarget, metrics: tuple[str, ...] = ("accuracy",), **options: object
) -> LabelTask:
    data = Data(columns=options.pop("columns", Columns()))
    return LabelTask(data, answers, metrics, metrics[0], texts=AnswerTexts(**options))


class Written:
    """A runner that generates given texts."""

    context = 64

    def __init__(self, *texts: str) -> None:
        self.texts = texts

    def generate(self, prompts, ends, max_new_tokens: int) -> list[Generated]:
        self.prompts, self.max_new_tokens = prompts, max_new_tokens
        return [Generated(text, finished=True) for text in self.texts]


def answered(task: LabelTask, tokenizer, labels: list, *texts: str) -> list:
    encoder = bound(task, tokenizer)
    return encoder.answer(encoder.encode(rows(text=["a"] * len(labels), label=labels)), Written(*texts), final=False)


def test_inputs_and_answers_as_tokens(letters) -> None:
    task = text_to_text(LabelTarget(MNLI, given=True), columns=Columns(text_pair="other"))
    assert task.kind is ENCODER_DECODER
    encoder = bound(task, letters)
    encoded = encoder.encode(rows(text=["ab", "c"], other=["d", "ef"], label=[2, 0]))
    batch = encoder.collate(encoded, np.array([1, 0]))
    expected = letters(["c", "ab"], ["ef", "d"], padding=True, return_tensors="pt")
    assert batch.inputs["input_ids"].tolist() == expected["input_ids"].tolist()
    assert [letters.decode(row[row > 3]) for row in batch.labels] == ["entailment", "contradiction"]
    assert [row[row >= 0].tolist()[-1] for row in batch.labels] == [3, 3]
    assert batch.weight == len("entailment") + len("contradiction") + 2
    model = tiny_model("t5", vocab_size=len(letters))
    mean = model(
        input_ids=batch.inputs["input_ids"], attention_mask=batch.inputs["attention_mask"], labels=batch.labels
    ).loss
    assert (encoder.loss(model, batch) / batch.weight).item() == pytest.approx(mean.item(), rel=1e-6)
    row = encoder.show(encoded, 0)
    assert (letters.decode(row.ids[row.masked : -1]), row.label) == ("contradiction", "contradiction")


def test_all_classes_are_scored(letters) -> None:
    task = text_to_text(LabelTarget(MNLI, given=True), label_texts=["0", "1", "2"])
    answers = answered(task, letters, [0, 1, 2, 2, 1], "0", "1", "2", "0", " 1 ")
    assert [answer.prediction for answer in answers] == [
        "entailment",
        "neutral",
        "contradiction",
        "entailment",
        "neutral",
    ]
    assert [answer.label for answer in answers] == [
        "entailment",
        "neutral",
        "contradiction",
        "contradiction",
        "neutral",
    ]
    assert task.score(answers, task.target.names) == {"accuracy": 4 / 5, "no_label": 0}


def test_what_is_no_label_is_wrong_and_counted(letters) -> None:
    """Also if it is the name of a label that has another text."""
    metrics = ("accuracy", "f1", "matthews_correlation")
    task = text_to_text(LabelTarget(["no", "yes"], given=True), metrics, label_texts=["n", "y"])
    answers = answered(task, letters, ["yes", "no", "yes", "no"], "y", "n", "yes", "")
    assert [answer.prediction for answer in answers] == ["yes", "no", None, None]
    assert answers[2].to_json(2) == {"index": 2, "prediction": None, "label": "yes", "text": "yes"}
    truths, guesses = [1, 0, 1, 0], [1, 0, 0, 1]
    assert task.score(answers, task.target.names) == pytest.approx(
        {
            "accuracy": 1 / 2,
            "f1": f1_score(truths, guesses),
            "matthews_correlation": matthews_corrcoef(truths, guesses),
            "no_label": 2,
        }
    )


def test_numbers(letters) -> None:
    task = text_to_text(RegressionTarget(), ("pearson", "spearman"))
    encoder = bound(task, letters)
    encoded = encoder.encode(rows(text=["a"] * 4, label=[3.84, -0.04, -2.0, 5]))
    written = [letters.decode(encoded.parts(index)[1], skip_special_tokens=True) for index in range(4)]
    assert written == ["3.8", "0.0", "-2.0", "5.0"]
    answers = encoder.answer(encoded, Written("3.8", "0", " -2 . 0", "inf"), final=False)
    assert [answer.prediction for answer in answers] == [3.8, 0.0, -2.0, None]
    assert [answer.label for answer in answers] == pytest.approx([3.84, -0.04, -2.0, 5.0])
    scores = task.score(answers, task.target.names)
    assert scores["no_number"] == 1
    assert scores["pearson"] == pytest.approx(np.corrcoef([3.8, 0, -2, -2], [3.84, -0.04, -2, 5])[0, 1], abs=1e-6)
    finer = text_to_text(RegressionTarget(), ("pearson",), decimals=3)
    encoded = bound(finer, letters, 64).encode(rows(text=["a"], label=[0.1236]))
    assert letters.decode(encoded.parts(0)[1], skip_special_tokens=True) == "0.124"


def test_the_answer_has_room_for_every_label(letters) -> None:
    task = text_to_text(LabelTarget(["no", "perhaps"], given=True))
    encoder = bound(task, letters)
    encoded = encoder.encode(rows(text=["a"], label=["no"]))
    passes = Written("no")
    encoder.answer(encoded, passes, final=False)
    assert passes.max_new_tokens == len("perhaps") + 1
    assert [letters.decode(ids) for ids in passes.prompts] == ["a[SEP]"]
    short = bound(text_to_text(LabelTarget(["no", "perhaps"], given=True), max_new_tokens=3), letters)
    encoded = short.encode(rows(text=["a"], label=["no"]))
    with fails("too-long", "max_new_tokens is 3", "8 tokens"):
        short.answer(encoded, passes, final=False)


def test_a_template_instead_of_columns(letters) -> None:
    task = text_to_text(LabelTarget(["no", "yes"], given=True), prompt_template="q {a} of {b}")
    encoded = bound(task, letters, 64).encode(rows(a=["x"], b=[7], label=["no"]))
    assert letters.decode(encoded.parts(0)[0]) == "q x of 7[SEP]"


AMBIGUOUS = {
    "the same text": (["a", "b"], ["x", "x"], "labels-mismatch", "'x' and 'x'"),
    "but for spaces": (["a", "b"], ["x y", "x  y"], "labels-mismatch", "'x y' and 'x  y'"),
    "unknown characters": (["a", "b"], ["x", "x{"], "unsupported-tokenizer", "'x{'"),
    "nothing but spaces": (["a", "b"], ["x", " "], "unsupported-tokenizer", "' '"),
    "too few": (["a", "b", "c"], ["x", "y"], "labels-mismatch", "2 texts for 3 labels"),
    "names": (["yes!", "yes?"], None, "unsupported-tokenizer", "'yes!'"),
}


@pytest.mark.parametrize(("names", "texts", "code", "fact"), AMBIGUOUS.values(), ids=AMBIGUOUS.keys())
def test_ambiguous_label_texts(letters, names: list[str], texts: list[str] | None, code: str, fact: str) -> None:
    task = text_to_text(LabelTarget(names, given=True), label_texts=texts)
    with fails(code, fact):
        bound(task, letters, 64)


def test_a_tokenizer_without_digits_writes_no_numbers(words) -> None:
    task = text_to_text(RegressionTarget(), ("pearson",))
    with fails("unsupported-tokenizer", "1.5"):
        bound(task, words, 64).encode(rows(text=["the film"], label=[1.5]))


def test_hidden_labels_are_none(letters) -> None:
    task = text_to_text(LabelTarget(["no", "yes"], given=True))
    encoder = bound(task, letters)
    encoded = encoder.encode(rows(text=["a", "bc"], label=[-1, -1]))
    assert encoded.labels is None
    assert encoded.lengths.tolist() == [2, 3]
    assert [answer.label for answer in encoder.answer(encoded, Written("no", "x"), final=True)] == [None, None]


def test_the_real_files(shared: Path, letters) -> None:
    """Every GLUE answer can be written and read back."""
    plain = glue_task("rte", Data(path=str(shared / "data" / "glue" / "rte")), None)
    task = replace(plain, texts=AnswerTexts())
    encoder = bound(task, letters)
    encoded = encoder.encode(task.load(0, ("validation",)).rows["validation"])
    written = [letters.decode(encoded.parts(index)[1], skip_special_tokens=True) for index in range(len(encoded))]
    assert set(written) == {"entailment", "not_entailment"}
    answers = encoder.answer(encoded, Written(*written), final=True)
    assert task.score(answers, task.target.names) == {"accuracy": 1.0, "no_label": 0}
