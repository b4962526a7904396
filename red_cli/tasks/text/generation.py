"""The generation task: prompts and completions from any columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from red_cli.errors import UserError
from red_cli.recipe.sections import BadRows, Columns
from red_cli.recipe.template import fill, template_fields
from red_cli.tasks.base import Base
from red_cli.tasks.data.bad_rows import blank_faults, check_truncation, text_faults, without_bad_rows
from red_cli.tasks.data.rows import CHUNK_ROWS, Rows
from red_cli.tasks.data.splits import Splits
from red_cli.tasks.data.texts import TextMaker, TextsOfRows, column_texts, filled_texts
from red_cli.tasks.special_ids import Affixes, SpecialIds, find_affixes, find_special_ids
from red_cli.tasks.text.encoded_texts import EncodedTexts, TextsBuilder, TruncatedExample
from red_cli.tasks.text.encoder import TextEncoder, truncate
from red_cli.tasks.text.task import TextTask
from red_cli.tasks.text.token_ids import running_ids, token_ids


@dataclass(frozen=True)
class TemplateTexts:
    """Prompts and completions of generation, from columns, or from templates with columns in braces."""

    columns: Columns
    prompt_template: str | None = None
    completion_template: str | None = None

    @property
    def label_column(self) -> str:
        """The first column of the completions."""
        return self._names("completion")[0]

    @property
    def column_names(self) -> list[str]:
        """The columns of prompts and completions."""
        return [name for part in ("prompt", "completion") for name in self._names(part)]

    def has_completions(self, rows: Rows) -> bool:
        """Whether some row has a completion that is not null or empty."""
        names = self._names("completion")
        if any(name not in rows.table.column_names for name in names):
            return False
        return any(value not in (None, "") for name in names for part in rows.chunks() for value in part.column(name))

    def prompts(self, rows: Rows) -> list[str]:
        """The prompts.

        Raises:
            UserError: a column is missing, or a value is not text.
        """
        return self._texts(rows, "prompt")

    def completions(self, rows: Rows) -> list[str]:
        """The completions.

        Raises:
            UserError: a column is missing, or a value is not text.
        """
        return self._texts(rows, "completion")

    def usable(self, split: str, rows: Rows, bad_rows: BadRows) -> Rows:
        """The rows of a split that have a prompt and, if the split has completions, a completion.

        Raises:
            UserError: a column is missing, or some rows have none and that is refused.
        """
        faults = text_faults(rows, self._names("prompt"), (str, int, float))
        if self.has_completions(rows):
            names = self._names("completion")
            faults = blank_faults(rows, names) | text_faults(rows, names, (str, int, float)) | faults
        return without_bad_rows(rows, split, faults, bad_rows)

    def prompt_of(self, text: str) -> str:
        """The prompt with `text` in its only column.

        Raises:
            UserError: the prompt template has several columns.
        """
        template = self.prompt_template or "{prompt}"
        names = template_fields(template)
        if len(names) != 1:
            raise UserError(
                "not-a-run",
                f"its prompts have several columns: {', '.join(names)}",
                hint="Use red eval with a data file that has these columns.",
            )
        return fill(template, {names[0]: text})

    def _template(self, part: str) -> str | None:
        return self.prompt_template if part == "prompt" else self.completion_template

    def _names(self, part: str) -> list[str]:
        template = self._template(part)
        return template_fields(template) if template is not None else [getattr(self.columns, part) or part]

    def _texts(self, rows: Rows, part: str) -> list[str]:
        template = self._template(part)
        return column_texts(rows, self._names(part)[0]) if template is None else filled_texts(rows, template)


@dataclass(frozen=True, kw_only=True)
class GenerationTask(TextTask):
    """The task of generation: a prompt -> a text.

    Attributes:
        texts: makes prompts and completions from rows.
        train_on_prompt: whether the tokens of prompts count towards the loss.
        end_token: the token that ends a completion; None: the tokenizer's own end token.
        ends_prompts: whether the end token also separates prompt and completion, for a decoder.
    """

    texts: TemplateTexts
    train_on_prompt: bool = False
    end_token: str | None = None
    ends_prompts: bool = False

    @property
    def label_column(self) -> str:
        """The column of the completions."""
        return self.texts.label_column

    def load(self, seed: int, needed: Sequence[str]) -> Splits:
        """Read the splits `needed`.

        Raises:
            UserError: a file or split is missing, unreadable or empty, or rows cannot be used and that is refused.
        """
        splits = super().load(seed, needed)
        bad_rows = self.data.bad_rows
        usable = {split: self.texts.usable(split, rows, bad_rows) for split, rows in splits.rows.items()}
        return replace(splits, rows=usable)

    def has_labels(self, rows: Rows, label_names: list[str] | None) -> bool:
        """Whether some row has a completion that is not null or empty."""
        return self.texts.has_completions(rows)

    def bind(self, base: Base, label_names: list[str] | None) -> GenerationEncoder:
        """The task's encoder for a base.

        Raises:
            UserError: the tokenizer has no end token.
        """
        special_ids, affixes = self._around_texts(base)
        return GenerationEncoder(
            task=self, base=base, special_ids=special_ids, affixes=affixes, train_on_prompt=self.train_on_prompt
        )

    def _around_texts(self, base: Base) -> tuple[SpecialIds, Affixes]:
        special_ids = find_special_ids(base.tokenizer, base.config, base.kind, self.end_token)
        affixes = find_affixes(base.tokenizer)
        if not base.kind.encoder_decoder:  # a completion continues the prompt
            affixes = Affixes(affixes.before, [special_ids.end] if self.ends_prompts else [])
        return special_ids, affixes


@dataclass(frozen=True, kw_only=True)
class GenerationEncoder(TextEncoder):
    """The encoder of generation: rows of prompts and completions -> batches -> texts."""

    task: GenerationTask

    @property
    def multi_turn(self) -> bool:
        """In a chat each message is a separate prompt."""
        return False

    def encode(self, rows: Rows) -> EncodedTexts:
        """Token ids of prompts and completions, with an end token, truncated to max_length.

        Prompt and completion are tokenised together, as in running text, if the prompt's own tokens are a prefix of
        the result; otherwise separately. A prompt has the same tokens in training and generation.

        Raises:
            UserError: a column is missing, a value is not text, a completion is empty, a prompt has no tokens, or rows
                are too long and that is refused.
        """
        max_length = self.base.max_length
        if max_length < len(self.affixes) + 2:
            raise UserError(
                "too-long", f"data.max_length is {max_length}; no prompt and completion fit into so few tokens"
            )
        texts = self.task.texts
        texts.usable("", rows, "refuse")
        make = self.text_makers()
        prompts = TextsOfRows(rows, make["prompts"])
        completions = TextsOfRows(rows, make["completions"]) if texts.has_completions(rows) else None
        built, truncated, ends_cut, first_cut = TextsBuilder(), 0, 0, 0
        for number, chunk in enumerate(rows.chunks()):
            examples = self.truncated(self.prompts(chunk), None if completions is None else self._completions(chunk))
            if (empty := next((row for row, example in enumerate(examples) if not example.prompt), None)) is not None:
                raise UserError(
                    "invalid-row",
                    f"{chunk.place(empty)}: the prompt is empty, and this tokenizer adds no token to it",
                )
            cut = [row for row, example in enumerate(examples) if example.truncated]
            if cut and not truncated:
                first_cut = number * CHUNK_ROWS + cut[0]
            truncated += len(cut)
            ends_cut += sum(example.end_truncated for example in examples)
            built.add(examples)
        check_truncation(self.task.data, rows, truncated, first_cut, max_length)
        features, offsets, prompt_lengths = built.finish()
        masked = 1 if self.train_on_prompt else prompt_lengths  # nothing precedes the first token
        return EncodedTexts(
            features=features,
            offsets=offsets,
            labels=None if completions is None else np.diff(offsets) - masked,
            truncated=truncated,
            ends_cut=ends_cut,
            prompt_lengths=prompt_lengths,
            rows=rows,
            prompts=prompts,
            completions=completions,
        )

    def text_makers(self) -> dict[str, TextMaker]:
        """How prompts and completions are made from rows, by the names of their fields in EncodedTexts."""
        return {
            "prompts": lambda rows, _: self.prompts(rows),
            "completions": lambda rows, _: self._completions(rows),
        }

    def prompts(self, rows: Rows) -> list[str]:
        """The texts of the prompts as they are tokenised.

        Raises:
            UserError: a column is missing, or a value cannot be used.
        """
        return self.marks.prompts(self.task.texts.prompts(rows))

    def _completions(self, rows: Rows) -> list[str]:
        return self.marks.completions(self.task.texts.completions(rows))

    def chat_ids(self, messages: Sequence[Mapping[str, str]]) -> list[int]:
        """The token ids of the prompt that answers the last message.

        Raises:
            UserError: prompts have several columns.
        """
        prompt = self.marks.prompt(self.task.texts.prompt_of(messages[-1]["content"]))
        ids = self.base.tokenizer(prompt, add_special_tokens=False)["input_ids"]
        return [*self.affixes.before, *ids, *self.affixes.after]

    def text_columns(self, rows: Rows) -> list[str]:
        """The columns of prompts and completions."""
        return [name for name in self.task.texts.column_names if name in rows.table.column_names]

    def carried(self, rows: Rows) -> dict[str, int]:
        """What prompts and completions carry though encoding adds it -> how many do."""
        texts = self.task.texts
        return self.marks.carried(texts.prompts(rows), texts.completions(rows) if texts.has_completions(rows) else [])

    def truncated(self, prompts: list[str], completions: list[str] | None) -> list[TruncatedExample]:
        """Token ids of prompts and completions, truncated to max_length; `completions` None: of prompts only."""
        tokenizer, separate = self.base.tokenizer, self.base.kind.encoder_decoder
        answers: Sequence[list[int] | None] = [None] * len(prompts)
        if completions is None:
            prompt_ids = token_ids(tokenizer, prompts)
        elif separate or self.affixes.after:
            prompt_ids, answers = token_ids(tokenizer, prompts), token_ids(tokenizer, completions)
        else:
            prompt_ids, answers = running_ids(tokenizer, prompts, completions)
        return [
            truncate(prompt, answer, self.affixes, self.special_ids.end, self.base.max_length, separate)
            for prompt, answer in zip(prompt_ids, answers, strict=True)
        ]
