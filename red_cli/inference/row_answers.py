"""Predict some rows of a file: an answer for each that can be encoded, and for each other one the reason."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa
from torch import nn

from red_cli.edit.pass_without_cache import output_without_cache
from red_cli.errors import UserError, first_line, shown
from red_cli.inference.answers import Answer
from red_cli.inference.generate import ResumableOutput
from red_cli.inference.input_columns import InputColumns
from red_cli.inference.predict import model_runner
from red_cli.inference.runtime import Runtime
from red_cli.recipe.tasks.commonsense import INPUT, CommonsenseSettings
from red_cli.tasks.base import Batch, Encoded, Encoder, ModelRunner, Prediction
from red_cli.tasks.chat.adapted import adapted
from red_cli.tasks.chat.conversations import Conversation, read_conversations
from red_cli.tasks.chat.instruction import InstructionEncoder
from red_cli.tasks.chat.messages import Observed
from red_cli.tasks.data.arrow_columns import TEXT, values_of
from red_cli.tasks.data.bad_rows import Fault
from red_cli.tasks.data.rows import Rows
from red_cli.tasks.labels.encoder import LabelEncoder
from red_cli.tasks.labels.text_to_text import TextToTextEncoder
from red_cli.tasks.presets.commonsense import CommonsenseEncoder
from red_cli.tasks.presets.commonsense_files import CommonsenseFiles
from red_cli.tasks.text.encoded_texts import EncodedTexts
from red_cli.tasks.text.encoder import TextEncoder
from red_cli.tasks.text.generation import GenerationEncoder
from red_cli.tasks.text.token_ids import token_ids

_DIGITS = 6  # after the point of a probability; the others depend on the rows of its batch
_SIGNIFICANT = 6  # digits of a number


@dataclass
class RowPredictor:
    """Answers rows with a loaded model.

    Attributes:
        encoder: of the model's task.
        columns: those of the file that it reads.
        asked_again: number of conversations that end with the assistant; the model answers the message before.
    """

    encoder: Encoder
    runtime: Runtime
    columns: InputColumns
    source: str
    asked_again: int = field(default=0)

    def answers(self, table: pa.Table, resumable: ResumableOutput | None) -> list[Answer]:
        """The answers to rows, in their order.

        Args:
            table: the columns to encode, by the names that the task reads.
            resumable: keeps generated texts while others are generated.
        """
        found: dict[int, Answer] = {}
        if self.columns.texts:
            table, problems = _usable_texts(table, self.columns.texts)
            found = {index: Answer(problem=problem) for index, problem in problems.items()}
        kept = [index for index in range(table.num_rows) if index not in found]
        if kept:
            rows = Rows(table, self.source).take(kept)
            found |= dict(zip(kept, self._answers(rows, resumable), strict=True))
        return [found[index] for index in range(table.num_rows)]

    def _answers(self, rows: Rows, resumable: ResumableOutput | None) -> list[Answer]:
        """The answers to rows whose texts are there."""
        encoder = self.encoder
        if isinstance(encoder, CommonsenseEncoder):
            return self._options(encoder, rows, resumable)
        if isinstance(encoder, TextEncoder):
            return self._texts(encoder, rows, resumable)
        assert isinstance(encoder, LabelEncoder)
        encoded = encoder.encode(rows)
        runner = self._runner(encoded, resumable)
        if isinstance(encoder, TextToTextEncoder):
            answers = [_written(each) for each in encoder.answer(encoded, runner, final=True)]
        else:
            answers = runner.forward(_numbers if encoder.target.names is None else _probabilities(encoder.target.names))
        return self._with_cuts(encoder, rows, encoded, answers)

    def _with_cuts(self, encoder: LabelEncoder, rows: Rows, encoded: Encoded, answers: list[Answer]) -> list[Answer]:
        """The answers, with a word on those to a text that was cut."""
        if not encoded.truncated:
            return answers
        longest, tokenizer = encoder.base.max_length, encoder.base.tokenizer
        inputs = encoded.prompt_lengths if isinstance(encoded, EncodedTexts) else encoded.lengths
        for index in np.flatnonzero(inputs >= longest).tolist():
            total = len(tokenizer(*encoder.input_texts(rows.slice(index, index + 1)))["input_ids"][0])
            if total > longest:
                answers[index] = answers[index].with_remark(
                    f"a long text: it is cut to {longest:,} of {total:,} tokens"
                )
        return answers

    def _texts(self, encoder: TextEncoder, rows: Rows, resumable: ResumableOutput | None) -> list[Answer]:
        """A generated text for each row whose prompt leaves room for it."""
        prompts = self._prompts(encoder, rows)
        context = self.runtime.context
        most = encoder.new_tokens(context)
        room = context - (0 if encoder.base.kind.encoder_decoder else most) - len(encoder.affixes)
        texts = [prompt for prompt in prompts if isinstance(prompt, str)]
        ids = iter(token_ids(encoder.base.tokenizer, texts))
        found: dict[int, Answer] = {}
        asked: dict[int, list[int]] = {}
        for index, prompt in enumerate(prompts):
            if isinstance(prompt, Answer):
                found[index] = prompt
                continue
            own = next(ids)
            framed = [*encoder.affixes.before, *own, *encoder.affixes.after]
            if len(own) > room:
                found[index] = Answer(problem=f"a long prompt: it has {len(own):,} tokens, {max(room, 0):,} fit")
            elif not framed:
                found[index] = Answer(problem="an empty prompt")
            else:
                asked[index] = framed
        if asked:
            runner = self._runner(_NOTHING, resumable)
            written = runner.generate(list(asked.values()), encoder.special_ids, most)
            for index, text in zip(asked, written, strict=True):
                remark = None if text.finished else f"an unfinished answer: it stopped after {most:,} tokens"
                found[index] = Answer(text.text, problem=remark or (None if text.text else "an empty answer"))
        return [found[index] for index in range(len(prompts))]

    def _prompts(self, encoder: TextEncoder, rows: Rows) -> Sequence[str | Answer]:
        """The text that each row's answer is generated from, or the reason why there is none."""
        if isinstance(encoder, InstructionEncoder):
            return self._asked(encoder, rows)
        assert isinstance(encoder, GenerationEncoder)
        return _each(rows, encoder.prompts)

    def _asked(self, encoder: InstructionEncoder, rows: Rows) -> list[str | Answer]:
        """The rendered conversation of each row, up to where the model answers."""
        found: list[str | Answer] = []
        for read in _each(rows, self._conversations):
            if isinstance(read, Answer):
                found.append(read)
                continue
            try:
                taken, _ = adapted(encoder.template, read.asked)
                messages = encoder.marks.messages(taken.messages)
                found.append(encoder.template.prompts([Conversation(messages, taken.tools, taken.variables)])[0])
                self.asked_again += read.answered
            except UserError as error:
                found.append(Answer(problem=first_line(error.message)))
        return found

    def _conversations(self, rows: Rows) -> list[Conversation | Answer]:
        read = read_conversations(rows, self.columns.columns, slice(0, rows.table.num_rows), Observed())
        return [each if isinstance(each, Conversation) else _fault(each) for each in read]

    def _options(self, encoder: CommonsenseEncoder, rows: Rows, resumable: ResumableOutput | None) -> list[Answer]:
        """The option that answers each question."""
        settings = self.runtime.recipe.task
        assert isinstance(settings, CommonsenseSettings)
        files = CommonsenseFiles(self.runtime.recipe.data, settings.subset, settings.prompt_template)

        def ask(part: Rows) -> list[Rows]:
            made = files.questions([(settings.subset, _with_inputs(part))])
            return [made.slice(index, index + 1) for index in range(made.table.num_rows)]

        asked = _each(rows, ask)
        unanswerable = Answer(
            problem="an instruction without answers: its last line is not  Answer format: answer1/answer2"
        )
        found: dict[int, Answer] = {}
        questions: dict[int, Rows] = {}
        for index, each in enumerate(asked):
            if isinstance(each, Answer):
                found[index] = each
            elif each.column("options")[0] is None:
                found[index] = unanswerable
            else:
                questions[index] = each
        if questions:
            table = pa.concat_tables([each.table for each in questions.values()])
            encoded = encoder.encode(Rows(table, rows.source))
            predictions = encoder.answer(encoded, self._runner(encoded, resumable), final=True)
            found |= {index: _option(each) for index, each in zip(questions, predictions, strict=True)}
        return [found[index] for index in range(len(asked))]

    def _runner(self, encoded: Encoded, resumable: ResumableOutput | None) -> ModelRunner:
        settings = self.runtime.recipe.train
        size = settings.micro_batch_size or settings.batch_size
        return model_runner(self.encoder, encoded, self.runtime, micro_batch_size=size, resumable=resumable)


_NOTHING = Encoded({}, np.zeros(1, dtype=np.int64), None, 0)  # for a runner that only generates


def _usable_texts(table: pa.Table, names: Sequence[str]) -> tuple[pa.Table, dict[int, str]]:
    """The rows with their columns `names` as text, and those that cannot be encoded: index -> reason."""
    problems: dict[int, str] = {}
    columns: dict[str, list[str]] = {}
    for name in names:
        columns[name] = []
        for index, value in enumerate(values_of(table.column(name), table.field(name))):
            number = isinstance(value, int | float) and not isinstance(value, bool)
            text = value if isinstance(value, str) else str(value) if number else ""
            if value is None:
                problems.setdefault(index, f"no value in column {shown(name)}")
            elif not isinstance(value, str) and not number:
                problems.setdefault(index, f"no text in column {shown(name)}")
            elif any("\ud800" <= char <= "\udfff" for char in text):
                problems.setdefault(index, f"half of a surrogate pair in column {shown(name)}")
            columns[name].append(text)
    for index, texts in enumerate(zip(*columns.values(), strict=True)):
        if not any(text.strip() for text in texts):
            problems.setdefault(index, "an empty text")
            problems[index] = "an empty text" if problems[index].startswith("no value") else problems[index]
    for name, texts_of_rows in columns.items():
        kept = [text if index not in problems else "" for index, text in enumerate(texts_of_rows)]
        place = table.column_names.index(name)
        table = table.set_column(place, pa.field(name, TEXT), pa.array(kept, TEXT))
    return table, problems


def _fault(fault: Fault) -> Answer:
    """The answer to a row without a conversation."""
    return Answer(problem=f"{fault.reason}: {fault.detail}" if fault.detail else fault.reason)


def _with_inputs(rows: Rows) -> Rows:
    """Rows to be answered, with an empty text for each null in their optional input."""
    names = rows.table.column_names
    if INPUT not in names:
        return rows
    texts = ["" if value is None else str(value) for value in rows.table.column(INPUT).to_pylist()]
    return replace(rows, table=rows.table.set_column(names.index(INPUT), INPUT, pa.array(texts, TEXT)))


def _each(rows: Rows, make: Callable[[Rows], Sequence[Any]]) -> list[Any]:
    """What `make` makes of some rows; for each row that it refuses, an answer with the reason."""
    try:
        return list(make(rows))
    except UserError:
        found: list[Any] = []
        for index in range(rows.table.num_rows):
            part = rows.slice(index, index + 1)
            try:
                found += make(part)
            except UserError as error:
                found.append(Answer(problem=first_line(error.message.removeprefix(f"{part.place(0)}: "))))
        return found


def _probabilities(names: Sequence[str]) -> Callable[[nn.Module, Batch], list[Answer]]:
    """A function from a batch of rows to their answers: the likeliest label with the probabilities of all."""

    def predict(model: nn.Module, batch: Batch) -> list[Answer]:
        found = output_without_cache(model, batch.inputs).logits.float().softmax(-1)
        return [
            Answer(names[best], probabilities=[round(each, _DIGITS) for each in row])
            for best, row in zip(found.argmax(-1).tolist(), found.tolist(), strict=True)
        ]

    return predict


def _numbers(model: nn.Module, batch: Batch) -> list[Answer]:
    """The predicted numbers of a batch."""
    found = output_without_cache(model, batch.inputs).logits.float().squeeze(-1).tolist()
    return [Answer(float(f"{number:.{_SIGNIFICANT}g}")) for number in found]


def _written(answer: Prediction) -> Answer:
    """A label or number that was read from a generated text."""
    problem = None if answer.prediction is not None else f"no answer in the generated text: {shown(answer.text)}"
    return Answer(answer.prediction, text=answer.text, problem=problem)


def _option(answer: Prediction) -> Answer:
    """The answer for a row with options: the one that a generated text names, or else the likeliest one."""
    if answer.text is None:
        return Answer(getattr(answer, "likeliest", None))
    return _written(answer)
