"""Read the files of the commonsense tasks.

In the protocol's layout each task has a folder (`ARC-Easy/train.json`, `ARC-Easy/test.json`), and the file
`commonsense_170k.json` joins the training rows; a clone of LLM-Adapters has them in dataset/ and ft-training_set/.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from red_cli.errors import UserError, shown
from red_cli.recipe.sections import Data
from red_cli.recipe.tasks.commonsense import INPUT, INSTRUCTION, CommonsenseSettings, CommonsenseSubset
from red_cli.recipe.template import fill, template_fields
from red_cli.tasks.data.read_splits import find_splits
from red_cli.tasks.data.rows import Rows
from red_cli.tasks.data.splits import Readers
from red_cli.tasks.data.texts import column_texts
from red_cli.tasks.presets.commonsense_protocol import (
    ANSWER_PREFIX,
    COMMONSENSE,
    JOINT_FILE,
    PROMPT,
    PROMPT_WITH_INPUT,
    options_of,
    read_answer,
    subset_named,
)

_PARTS = ("train", "validation", "test")


@dataclass(frozen=True)
class CommonsenseFiles:
    """The commonsense data of a recipe.

    Attributes:
        subset: the one task to read; None: all.
        prompt_template: replaces the protocol's prompt.
    """

    data: Data
    subset: CommonsenseSubset | None
    prompt_template: str | None

    def readers(self) -> Readers:
        """Every available split, with its reader; no file is read.

        Raises:
            UserError: a file or folder is missing, the Hub cannot be reached, or a folder has no folder of a task.
        """
        found: Readers = {}
        if self.data.path is not None:
            found = self._of(Path(self.data.path), self.data)
        for split in _PARTS:
            place = getattr(self.data, split)
            if place is not None:
                alone = self._of(Path(place), Data(train=place))
                wanted = split if split in alone or Path(place).is_dir() else "train"  # a single file is read as train
                if wanted not in alone:
                    raise UserError(
                        "split-not-found", f"data.{split}: {place} has no {split} split; it has {', '.join(alone)}"
                    )
                found[split] = alone[wanted]
        return found

    def _of(self, path: Path, plain: Data) -> Readers:
        """The splits of a folder of tasks, else of the source in `plain`: one task's folder, a file or the Hub."""
        folders = _task_folders(path)
        if folders or _joint_file(path):
            return self._of_folders(path, folders)
        named = subset_named(path.name) or subset_named(path.parent.name)
        if path.is_dir() and self.subset is None and named is None:
            titles = ", ".join(COMMONSENSE)
            raise UserError(
                "folder-not-found", f"{path} has no folder of a commonsense task", hint=f"Expected some of: {titles}"
            )
        if None not in (self.subset, named) and self.subset != named:
            raise UserError("conflicting-keys", f"task.subset is {self.subset}, but {path} looks like {named}")
        if not path.exists() and "/" not in str(path):
            raise UserError(
                "file-not-found", f"data.path: no such file or folder: {path}", hint=CommonsenseSettings.source_hint
            )
        task = self.subset or named
        sources = find_splits(Data(path=str(path)) if path.is_dir() else plain, "answer")
        return {split: partial(self._read, [(task, read)]) for split, read in sources.items()}

    def _of_folders(self, path: Path, folders: dict[CommonsenseSubset, Path]) -> Readers:
        wanted = {task: folder for task, folder in folders.items() if self.subset in (None, task)}
        if self.subset is not None and not wanted:
            raise UserError(
                "folder-not-found",
                f"{path} has no folder of {self.subset}",
                hint=f"It has: {', '.join(folders) or JOINT_FILE}",
            )
        by_split: dict[str, list[tuple[CommonsenseSubset | None, Callable[[], Rows]]]] = {}
        for task, folder in wanted.items():
            for split, read in find_splits(Data(path=str(folder)), "answer").items():
                by_split.setdefault(split, []).append((task, read))
        if self.subset is None and (joint := _joint_file(path)):
            by_split["train"] = [(None, find_splits(Data(train=str(joint)), "answer")["train"])]
        return {split: partial(self._read, sources) for split, sources in by_split.items()}

    def _read(self, sources: Sequence[tuple[CommonsenseSubset | None, Callable[[], Rows]]]) -> Rows:
        """Read one or several sources as questions."""
        return self.questions([(task, read()) for task, read in sources])

    def questions(self, parts: Sequence[tuple[CommonsenseSubset | None, Rows]]) -> Rows:
        """Rows of tasks as the questions of one table, with the columns prompt, completion, answer, options and task.

        Raises:
            UserError: a column is missing, a value is not text, or an answer is not one of its options.
        """
        tables = [pa.Table.from_pylist(self._rows(rows, task), _SCHEMA) for task, rows in parts]
        tasks = ", ".join(str(task) for task, _ in parts)
        source = parts[0][1].source if len(parts) == 1 else f"{Path(parts[0][1].source).parent.parent} ({tasks})"
        return Rows(pa.concat_tables(tables), source)

    def _rows(self, rows: Rows, task: CommonsenseSubset | None) -> list[dict[str, Any]]:
        columns = self.data.columns
        names = rows.table.column_names
        instructions = column_texts(rows, columns.prompt or INSTRUCTION)
        outputs, answers = (
            _texts_if_any(rows, name) if name in names else [None] * len(instructions)
            for name in (columns.completion or "output", columns.label or "answer")
        )
        prompts = self._prompts(rows, instructions)
        made = []
        for index, instruction in enumerate(instructions):
            options, output = options_of(instruction), outputs[index]
            answer = answers[index] or (output and read_answer(output, options or []))
            if answer is not None and options and answer not in options:
                raise UserError(
                    "invalid-row",
                    f"{rows.place(index)}: the answer is {shown(answer)}, but the "
                    f"instruction offers {', '.join(options)}",
                )
            made.append(
                {
                    "prompt": prompts[index],
                    "completion": output or (None if answer is None else ANSWER_PREFIX + answer),
                    "answer": answer,
                    "options": options,
                    "task": task,
                }
            )
        return made

    def _prompts(self, rows: Rows, instructions: list[str]) -> list[str]:
        if self.prompt_template is not None:
            named = {
                name: column_texts(rows, name) for name in template_fields(self.prompt_template) if name != INSTRUCTION
            }
            named[INSTRUCTION] = instructions
            return [
                fill(self.prompt_template, {name: texts[index] for name, texts in named.items()})
                for index in range(len(instructions))
            ]
        inputs = column_texts(rows, INPUT) if INPUT in rows.table.column_names else [""] * len(instructions)
        return [
            fill(PROMPT_WITH_INPUT if given else PROMPT, {"instruction": instruction, "input": given})
            for instruction, given in zip(instructions, inputs, strict=True)
        ]


_SCHEMA = pa.schema(
    [("prompt", pa.string()), ("completion", pa.string()), ("answer", pa.string()), ("options", pa.list_(pa.string())),
     ("task", pa.string())]
)  # fmt: skip


def _task_folders(path: Path) -> dict[CommonsenseSubset, Path]:
    """The tasks' folders in `path` or its dataset/, in the order of COMMONSENSE."""
    for place in (path, path / "dataset"):
        if place.is_dir():
            named = {subset_named(folder.name): folder for folder in sorted(place.iterdir()) if folder.is_dir()}
            found = {subset: named[subset] for subset in COMMONSENSE if subset in named}
            if found:
                return found
    return {}


def _texts_if_any(rows: Rows, name: str) -> list[str | None]:
    """A column of a commonsense file as texts, with None for blank and null values."""
    values = rows.column(name)
    for index, value in enumerate(values):
        if value is not None and not isinstance(value, str):
            raise UserError(
                "invalid-row",
                f"{rows.place(index)}: column {shown(name)} is {shown(value)}, not text",
            )
    return [value.strip() or None if value else None for value in values]


def _joint_file(path: Path) -> Path | None:
    """The file of joined commonsense training rows in or near a folder; None if there is none."""
    places = (path, path / "ft-training_set", path / "dataset", path.parent / "ft-training_set")
    return next((place / JOINT_FILE for place in places if (place / JOINT_FILE).is_file()), None)
