"""Base classes of task settings: metrics, columns, faults, titles in reports."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from pydantic import ConfigDict

from red_cli.recipe.metrics import CLASSIFICATION_METRICS, REGRESSION_METRICS, TEXT_METRICS, Metric, TextMetric
from red_cli.recipe.roles import FIRST_VERSION, Since
from red_cli.recipe.sections import Columns, Data, KeyFault, Section
from red_cli.recipe.template import template_fields
from red_cli.recipe.train_section import Train

DEFAULT_NEW_TOKENS = 128  # of a generated text, if the recipe does not set it
NAME = "The task."
TEXT_TO_TEXT = "Generate the answer as text with an encoder-decoder, instead of training a head."
INPUT_TEMPLATE = "With text_to_text: the encoder's input, with columns in braces; default: the text or the pair."
LABEL_TEXTS = "With text_to_text: the text of each label, in the order of label ids; default: the label names."

_CONVERSATIONS = ("messages", "instruction", "input", "output")  # columns that only conversations are read from
_LABEL = "label"  # default column of the label
TEXT_COLUMNS = ("text", "sentence")  # default columns of the text; the first that is there


class Heading(NamedTuple):
    """The title of a task's column in published tables, and the column's position."""

    place: int
    title: str


class TemplateChoice(NamedTuple):
    """The chat template to train with: its name or text, and extra variables."""

    template: str
    variables: dict[str, str | int | float | bool]


class TaskSettings(Section):
    """The settings of a task. A subclass has the key `name`, and `subset` if the task has several parts.

    Attributes:
        since: the version that introduced the task.
        reads: the keys of data.columns that it uses.
        rows: a description of a row.
        learns_texts: whether it trains on tokens of texts, so that rows can be packed and texts scored.
        has_source: whether it has a default data set.
        source_hint: where to get its data.
        has_own_layout: whether its files or splits have their own layout.
        has_paper_split: whether it supports eval.split=paper.
        can_chat: whether `red chat` suggests itself after a training.
        default_text_metrics: metrics of generated texts if eval.metrics is not set.
        default_new_tokens: maximum tokens of a text if eval.generation does not set it; None: depends on the rows.
    """

    model_config = ConfigDict(model_title_generator=lambda kind: kind.__name__.replace("Settings", "Task"))

    if TYPE_CHECKING:
        name: str

    since: ClassVar[Since] = FIRST_VERSION
    reads: ClassVar[tuple[str, ...]]
    rows: ClassVar[str]
    learns_texts: ClassVar[bool] = False
    has_source: ClassVar[bool] = False
    source_hint: ClassVar[str | None] = None
    has_own_layout: ClassVar[bool] = False
    has_paper_split: ClassVar[bool] = False
    can_chat: ClassVar[bool] = False
    default_text_metrics: ClassVar[tuple[TextMetric, ...]] = ()
    default_new_tokens: ClassVar[int | None] = None

    @property
    def title(self) -> str:
        """The task's name with its subset, such as glue/sst2."""
        subset = getattr(self, "subset", None)
        return f"{self.name}/{subset}" if subset else self.name

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """The metrics that can select the best checkpoint; the first is the default."""
        raise NotImplementedError

    def default_metric(self, classes: Mapping[str, int]) -> Metric:
        """The metric that selects the best checkpoint if the recipe names none.

        Args:
            classes: label -> number of rows of the training split; empty if answers are numbers or texts.
        """
        return self.metrics[0]

    @property
    def writes_text(self) -> bool:
        """Whether answers are generated texts."""
        return True

    @property
    def is_regression(self) -> bool:
        """Whether answers are numbers."""
        return False

    @property
    def has_classes(self) -> bool:
        """Whether answers are labels, whose rows can have weights."""
        return False

    @property
    def heading(self) -> Heading | None:
        """The task's column in published tables, or None."""
        return None

    @property
    def chat_template(self) -> TemplateChoice | None:
        """The chat template of conversations; None for tasks without conversations."""
        return None

    def why_no_text(self, metric: str | None) -> str | None:
        """Why a task that writes texts generates none if `metric` selects; None if it generates."""
        return None

    def columns_read(self, columns: Columns) -> dict[str, str | None]:
        """Key of data.columns -> column, defaults included; may be empty if the recipe sets no column."""
        return {}

    @property
    def validation_splits(self) -> tuple[str, ...]:
        """The splits of the data that are scored after training; the first selects."""
        return ("validation",)

    def input_columns(self, columns: Columns) -> list[tuple[str, ...]]:
        """The columns of a row's input; of several names for one, one is enough. Empty if they depend on the rows."""
        return []

    def answer_columns(self, columns: Columns) -> list[tuple[str, ...]]:
        """The columns of a row's answer, likewise; a split to be predicted has none."""
        return []

    def conflicting_files(self, data: Data) -> list[str]:
        """The set keys of single files that contradict data.path."""
        return [name for name in ("train", "validation", "test") if getattr(data, name) is not None]

    def faults(self, data: Data, train: Train) -> list[KeyFault]:
        """Keys that the task does not use, or that contradict each other: (key path, what is wrong)."""
        others = [name for name in Columns.model_fields if name not in (*_CONVERSATIONS, *self.reads)]
        unread = [name for name in others if getattr(data.columns, name)]
        faults: list[KeyFault] = [(("data", "columns", name), f"{self.name} has {self.rows}") for name in unread]
        return faults if "messages" in self.reads else [*faults, *_faults_of_conversations(data)]

    def mistakes(self, data: Data) -> list[KeyFault]:
        """Values of the task's keys that are certainly mistakes: (key path, what is wrong)."""
        return []


class LabelSettings(TaskSettings):
    """The settings of a task with a text or a pair of texts as input, and a label or a number as answer."""

    if TYPE_CHECKING:
        text_to_text: bool
        prompt_template: str | None

    reads: ClassVar[tuple[str, ...]] = ("text", "text_pair", _LABEL)
    rows: ClassVar[str] = "a text and a label"

    @property
    def metrics(self) -> tuple[Metric, ...]:
        return REGRESSION_METRICS if self.is_regression else CLASSIFICATION_METRICS

    @property
    def writes_text(self) -> bool:
        return self.text_to_text

    @property
    def has_classes(self) -> bool:
        return not self.is_regression

    def columns_read(self, columns: Columns) -> dict[str, str | None]:
        return {"text": columns.text, "text_pair": columns.text_pair, _LABEL: columns.label or _LABEL}

    def input_columns(self, columns: Columns) -> list[tuple[str, ...]]:
        if self.text_to_text and self.prompt_template is not None:
            return [(name,) for name in template_fields(self.prompt_template)]
        text = TEXT_COLUMNS if columns.text is None else (columns.text,)
        return [text] if columns.text_pair is None else [text, (columns.text_pair,)]

    def answer_columns(self, columns: Columns) -> list[tuple[str, ...]]:
        return [(columns.label or _LABEL,)]

    def faults(self, data: Data, train: Train) -> list[KeyFault]:
        faults = super().faults(data, train)
        own = type(self).model_fields
        if not self.text_to_text:
            idle = [name for name in ("prompt_template", "label_texts", "decimals") if name in own]
            changed = [name for name in idle if getattr(self, name) != own[name].default]
            faults += [(("task", name), "has an effect only with task.text_to_text: true") for name in changed]
        if self.prompt_template is not None and (data.columns.text or data.columns.text_pair):
            faults.append((("task", "prompt_template"), "set this key or data.columns.text, not both"))
        return faults

    def mistakes(self, data: Data) -> list[KeyFault]:
        label = data.columns.label or _LABEL
        if self.prompt_template is None or label not in template_fields(self.prompt_template):
            return []
        return [
            (
                ("task", "prompt_template"),
                f"{label!r} is the column of the label, so the prompt would contain the answer",
            )
        ]


class TextSettings(TaskSettings):
    """The settings of a task with free text as answer."""

    learns_texts: ClassVar[bool] = True
    default_new_tokens: ClassVar[int | None] = DEFAULT_NEW_TOKENS

    @property
    def metrics(self) -> tuple[Metric, ...]:
        return ("loss", "exact_match", *TEXT_METRICS)


class CompletionSettings(TextSettings):
    """The settings of a task with a prompt as input and its completion as answer."""

    reads: ClassVar[tuple[str, ...]] = ("prompt", "completion")
    rows: ClassVar[str] = "a prompt and a completion"

    def columns_read(self, columns: Columns) -> dict[str, str | None]:
        named = {part: getattr(columns, part) for part in self.reads if self.template(part) is None}
        return {part: name or part for part, name in named.items()} if any(named.values()) else {}

    def input_columns(self, columns: Columns) -> list[tuple[str, ...]]:
        return self._columns_of("prompt", columns)

    def answer_columns(self, columns: Columns) -> list[tuple[str, ...]]:
        return self._columns_of("completion", columns)

    def _columns_of(self, part: str, columns: Columns) -> list[tuple[str, ...]]:
        template = self.template(part)
        return [
            (name,) for name in ([getattr(columns, part) or part] if template is None else template_fields(template))
        ]

    def template(self, part: str) -> str | None:
        """The template of the prompt or completion; None: it is a column."""
        return None


def _faults_of_conversations(data: Data) -> list[KeyFault]:
    """The base class's faults for data keys that only the task instruction uses: (key path, what is wrong)."""
    columns = [("data", "columns", name) for name in _CONVERSATIONS if getattr(data.columns, name) is not None]
    keys: list[tuple[str, ...]] = [
        *columns,
        *(("data", name) for name in ("streaming", "max_prompt_length") if getattr(data, name)),
    ]
    faults: list[KeyFault] = [(path, "works only with the task instruction") for path in keys]
    if data.too_long == "drop":
        faults.append((("data", "too_long"), "drop works only with the task instruction; use cut or refuse"))
    return faults
