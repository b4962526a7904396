"""Guess the task of rows and the columns that it reads, each with a reason; what is ambiguous is refused."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from red_cli.errors import UserError, one_line, shown
from red_cli.formatting import some_of
from red_cli.guess.columns import Column, judged_columns
from red_cli.tasks.data.rows import Rows, column_not_found

LABEL_TASKS = ("classification", "regression")
TASKS = (*LABEL_TASKS, "generation", "instruction")
# Plain names of columns that belong together. The first that are all there are taken.
_INSTRUCTIONS = (("instruction", "output"), ("instruction", "response"), ("instruction", "completion"),
                 ("instruction", "answer"))  # fmt: skip
_ALWAYS_COMPLETED = (("prompt", "completion"), ("prompt", "response"), ("prompt", "chosen"))
_COMPLETED = (
    ("prompt", "output"), ("prompt", "answer"), ("prompt", "target"), ("question", "answer"), ("query", "response"),
    ("query", "answer"), ("question", "response"), ("input", "output"), ("input", "target"), ("source", "target"),
    ("src", "tgt"), ("document", "summary"), ("article", "summary"), ("article", "highlights"),
    ("dialogue", "summary"), ("text", "summary"), ("user", "assistant"),
)  # fmt: skip
_PAIRS = (
    ("sentence1", "sentence2"), ("premise", "hypothesis"), ("question1", "question2"), ("text", "text_pair"),
    ("question", "sentence"), ("question", "passage"), ("question", "context"), ("query", "document"),
    ("query", "passage"), ("claim", "evidence"),
)  # fmt: skip
_NUMBERED = re.compile(r"(.*?)_?(1|2|a|b)")
_TEXT_NAMES = ("text", "sentence", "review", "message", "comment", "content", "body", "tweet", "document", "utterance",
               "question", "query", "description")  # fmt: skip
_MESSAGES = ("messages", "conversations", "conversation", "chosen")
_CONTEXT = ("input", "context")
_WORDS_OF_NO_NAME = 3
_CLEARLY_LONGER = 3.0  # times as many words


@dataclass(frozen=True)
class TaskGuess:
    """A task and its columns.

    Attributes:
        columns: key of data.columns -> column.
        reasons: what was decided -> why, for the user.
        label: the column of labels or numbers as it was judged; None for other tasks.
    """

    task: str
    columns: Mapping[str, str]
    reasons: Mapping[str, str] = field(default_factory=dict)
    label: Column | None = None


@dataclass(frozen=True)
class Given:
    """What the user has named already: the task, and columns by their key of data.columns."""

    task: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)


def guess_task(rows: Rows, given: Given) -> TaskGuess:
    """The task of rows and its columns.

    Raises:
        UserError: no task fits, several columns fit alike, or a column that the user named does not exist.
    """
    for name in given.columns.values():
        if name not in rows.table.column_names:
            raise column_not_found(rows.source, name, rows.table.column_names)
    if given.task is not None and given.task not in TASKS:
        raise _no_guess(rows, f"a recipe for the task {one_line(given.task)} is not written from a file",
                        f"One of: {', '.join(TASKS)}")  # fmt: skip
    columns = judged_columns(rows)
    _require_header(rows, columns)
    if (given.task is None and not {"text", "text_pair", "label"} & given.columns.keys()) or given.task in TASKS[2:]:
        found = _texts_to_write(rows, columns, given)
        if found is not None:
            return found
        if given.task is not None:
            hint = "Name them: data.columns.prompt=… data.columns.completion=…"
            raise _no_guess(rows, "no columns of prompts and their completions are clear", hint, columns)
    return _labels(rows, columns, given)


def _require_header(rows: Rows, columns: Sequence[Column]) -> None:
    """Refuse to guess a task from rows without a header, whose first line is itself a row.

    One name may well be a class as well, as in a column spam, but then the texts have a short name.
    """
    if not any(column.kind == "text" and len(column.name.split()) >= _WORDS_OF_NO_NAME for column in columns):
        return
    for column in columns:
        if column.kind == "classes" and column.name.strip() in column.values:
            raise _no_guess(
                rows,
                f"the first line is a row and no names of columns: {shown(column.name)} is also a value below it",
                "Put a line with the names of the columns first, such as text,label",
            )


def _texts_to_write(rows: Rows, columns: Sequence[Column], given: Given) -> TaskGuess | None:
    """Conversations, instructions with outputs, or prompts with completions; None if there are none."""
    if named := {key: given.columns[key] for key in ("messages", "instruction", "prompt") if key in given.columns}:
        key = next(iter(named))
        answer = {"messages": None, "instruction": "output", "prompt": "completion"}[key]
        named |= {} if answer is None else {answer: given.columns.get(answer, answer)}
        return _writing(given.task or ("generation" if key == "prompt" else "instruction"), named, "as given")
    by_key = {column.key: column for column in reversed(columns)}
    of_messages = [column for column in columns if column.kind == "messages"]
    for first, second in (*_ALWAYS_COMPLETED, *_INSTRUCTIONS):
        if first in by_key and second in by_key and by_key[first].kind != "object":
            task = "instruction" if first == "instruction" or by_key[first] in of_messages else "generation"
            keys = ("instruction", "output") if first == "instruction" else ("prompt", "completion")
            found = {keys[0]: by_key[first].name, keys[1]: by_key[second].name}
            more = next((by_key[name].name for name in _CONTEXT if first == "instruction" and name in by_key), None)
            found |= {} if more is None else {"input": more}
            return _writing(given.task or task, found, f"columns named {first} and {second}")
    if of_messages:
        chosen = next((by_key[name] for name in _MESSAGES if name in by_key and by_key[name] in of_messages), None)
        if chosen is None and len(of_messages) > 1:
            raise _ambiguous(rows, "messages", of_messages)
        chosen = chosen or of_messages[0]
        return _writing(given.task or "instruction", {"messages": chosen.name}, f"{shown(chosen.name)} holds messages")
    texts = {column.key: column for column in columns if column.kind in ("text", "word")}
    if given.task is None and any(column.rank == 0 and column.kind in ("classes", "number") for column in columns):
        return None
    for first, second in _COMPLETED:
        if first in texts and second in texts:
            found = {"prompt": texts[first].name, "completion": texts[second].name}
            return _writing(given.task or "generation", found, f"texts named {first} and {second}")
    if given.task is not None and len(texts) == 2:
        prompt, completion = texts.values()
        found = {"prompt": prompt.name, "completion": completion.name}
        return _writing(given.task, found, "the two columns of texts, in their order")
    return None


def _writing(task: str, columns: Mapping[str, str], reason: str) -> TaskGuess:
    """The guess of a task that writes texts."""
    return TaskGuess(task, columns, {"task": reason})


def _labels(rows: Rows, columns: Sequence[Column], given: Given) -> TaskGuess:
    """A text or a pair of texts with a label or a number."""
    by_name = {column.name: column for column in columns}
    reasons: dict[str, str] = {}
    if "label" in given.columns:
        label, reasons["label"] = by_name[given.columns["label"]], "as given"
    else:
        label, reasons["label"] = _label(rows, columns, given)
    others = [column for column in columns if column.name != label.name]
    texts, reasons["text"] = _text(rows, others, given)
    task = given.task or ("classification" if label.kind not in ("number", "count") else "regression")
    reasons["task"] = "as given" if given.task else f"{shown(label.name)} has {_described(label).partition(',')[0]}"
    return TaskGuess(task, {**texts, "label": label.name}, reasons, label)


def _label(rows: Rows, columns: Sequence[Column], given: Given) -> tuple[Column, str]:
    """The column of labels or numbers, and why it is this one."""
    kinds = {"regression": ("number", "count", "classes"), "classification": ("classes",)}.get(
        given.task or "", ("classes", "number")
    )
    named_as_text = set(given.columns.values())
    fitting = [column for column in columns if column.kind in kinds and column.name not in named_as_text]
    fitting = [column for column in fitting if column.rank < 2 or column.blank <= 0.5]
    if given.task == "regression":
        fitting = [column for column in fitting if column.kind == "number"] or fitting
        fitting = [column for column in fitting if _numeric(column)]
    if not fitting:
        what = "numbers" if given.task == "regression" else "labels, numbers, completions or messages"
        raise _no_guess(rows, f"no column holds {what}", "Name the column: data.columns.label=…", columns)
    best = min(column.rank for column in fitting)
    first = _without_synonyms(rows, [column for column in fitting if column.rank == best])
    if len(first) > 1:
        raise _ambiguous(rows, "label", first)
    [label] = first
    if len(fitting) == 1:
        return label, f"the only column of {'numbers' if label.kind == 'number' else 'classes'}"
    others = [shown(column.name) for column in fitting if column is not label]
    return label, f"by its name; not {some_of(others)}"


def _numeric(column: Column) -> bool:
    """Whether the values of a column are numbers, so that the task may be a regression."""
    try:
        return all(float(text) == float(text) for text in column.values)
    except ValueError:
        return False


def _without_synonyms(rows: Rows, columns: Sequence[Column]) -> list[Column]:
    """The candidates for the task's label: of several with the same classes only one, a text if there is one."""
    kept: list[Column] = []
    for column in sorted(columns, key=_numeric):
        if not any(_one_to_one(rows, column, other) for other in kept):
            kept.append(column)
    return kept


def _one_to_one(rows: Rows, one: Column, other: Column) -> bool:
    """Whether two candidates for the task's label are not ambiguous: they class the rows in the same way."""
    pairs = set(zip(map(str, rows.column(one.name)), map(str, rows.column(other.name)), strict=True))
    return len(pairs) == len({first for first, _ in pairs}) == len({second for _, second in pairs})


def _text(rows: Rows, columns: Sequence[Column], given: Given) -> tuple[dict[str, str], str]:
    """The columns of the text or the pair, and why they are these."""
    if named := {key: given.columns[key] for key in ("text", "text_pair") if key in given.columns}:
        if "text" in named:
            return named, "as given"
        columns = [column for column in columns if column.name not in named.values()]
    texts = [column for column in columns if column.kind == "text"] or [
        column for column in columns if column.kind == "word"
    ]
    if not texts:
        raise _no_guess(rows, "no column holds texts", "Name the column: data.columns.text=…", columns)
    if len(texts) == 1:
        return {"text": texts[0].name, **named}, "the only column of texts"
    by_key = {column.key: column.name for column in reversed(texts)}
    for first, second in (*_PAIRS, *_numbered_pairs(list(by_key))):
        if first in by_key and second in by_key and not named:
            return {"text": by_key[first], "text_pair": by_key[second]}, f"a pair, {first} and {second}"
    for name in _TEXT_NAMES:
        if name in by_key:
            others = [shown(column.name) for column in texts if column.name != by_key[name]]
            return {"text": by_key[name], **named}, f"by its name; not {some_of(others)}"
    longest, second_longest = sorted(texts, key=lambda column: -column.words)[:2]
    if longest.words >= _CLEARLY_LONGER * second_longest.words:
        return {"text": longest.name, **named}, f"the longest texts; {shown(second_longest.name)} is far shorter"
    raise _ambiguous(rows, "text", texts)


def _numbered_pairs(keys: Sequence[str]) -> list[tuple[str, str]]:
    """Guess which texts are a pair for a task: names that differ only in a final 1 and 2, or a and b."""
    stems: dict[str, list[str]] = {}
    for key in sorted(keys):
        if match := _NUMBERED.fullmatch(key):
            stems.setdefault(match[1], []).append(key)
    return [(found[0], found[1]) for found in stems.values() if len(found) == 2]


def _ambiguous(rows: Rows, key: str, candidates: Sequence[Column]) -> UserError:
    """The error for a task that cannot be guessed, since several columns fit alike."""
    listed = "\n".join(f"  {one_line(column.name)}: {_described(column)}" for column in candidates)
    pair = "  (a pair of texts: data.columns.text_pair=… as well)" if key == "text" else ""
    command = shlex.join(["red", "train", rows.source, f"data.columns.{key}={candidates[0].name}"])
    return UserError(
        "cannot-guess",
        f"{rows.source}: {len(candidates)} columns may be the {key}:\n{listed}",
        hint=f"Name one of them: {command}{pair}",
    )


def _no_guess(rows: Rows, what: str, hint: str, columns: Sequence[Column] = ()) -> UserError:
    """The error for a file that shows no task."""
    listed = "".join(f"\n  {one_line(column.name)}: {_described(column)}" for column in columns[:12])
    return UserError("cannot-guess", f"{rows.source}: {what}{listed}", hint=hint)


def _described(column: Column) -> str:
    """What a column holds, for the user."""
    what = {
        "text": f"texts of {column.words:.0f} words on average", "word": f"{column.distinct:,} different short texts",
        "classes": f"{column.distinct:,} classes", "number": "numbers", "count": f"{column.distinct:,} whole numbers",
        "id": "names or numbers of rows", "date": "dates", "messages": "messages", "object": "lists or objects",
        "constant": "the same in every row", "blank": "nothing",
    }[column.kind]  # fmt: skip
    examples = ", ".join(one_line(text, 30) for text in column.values[:3])
    return f"{what}, such as {examples}" if column.kind in ("classes", "number", "count", "word") else what
