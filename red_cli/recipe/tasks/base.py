"""What the settings of every task answer for: metrics, columns, faults, and what they are called in reports."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, NamedTuple

from pydantic import ConfigDict

from red_cli.recipe.metric_names import CLASSIFICATION_METRICS, REGRESSION_METRICS, TEXT_METRICS, Metric, TextMetric
from red_cli.recipe.sections import Columns, Data, KeyFault, Section, Train
from red_cli.recipe.template import fields

DEFAULT_NEW_TOKENS = 128  # most tokens of a generated text, where the recipe does not say
TEXT_TO_TEXT = "Have an encoder-decoder write the answer as text, instead of training a head."
INPUT_TEMPLATE = "With text_to_text: what the encoder reads, columns in braces; default: the text or the pair."
LABEL_TEXTS = "With text_to_text: what is written for each label, in the order of their ids; default: their names."

_CONVERSATIONS = ("messages", "instruction", "input", "output")  # columns that conversations alone are read from
_LABEL = "label"  # the label's column where the recipe does not name it


class Heading(NamedTuple):
    """What a task is called in tables, and the place of its column among those of published tables."""

    place: int
    title: str


class TemplateChoice(NamedTuple):
    """The chat template that a model is trained with: its name or text, and further variables."""

    template: str
    variables: dict[str, str | int | float | bool]


class TaskSettings(Section):
    """The settings of a task. A subclass names it in the key `name`; one that has parts names the part in `subset`.

    Attributes:
        reads: the keys of data.columns that say where its rows have what.
        rows: what a row has, in words.
        learns_texts: whether tokens of texts are trained on, so that rows can be packed and texts scored.
        has_source: whether it knows its data where the recipe names none.
        source_hint: where its data are to be had.
        has_own_layout: whether its files or splits are laid out in a way of their own.
        has_paper_split: whether eval.split=paper has a meaning for it.
        default_text_metrics: metrics of generated texts where eval.metrics names none.
        default_new_tokens: most tokens of a text where eval.generation does not say; None: it depends on the rows.
    """

    model_config = ConfigDict(model_title_generator=lambda kind: kind.__name__.replace("Settings", "Task"))

    if TYPE_CHECKING:
        name: str

    reads: ClassVar[tuple[str, ...]]
    rows: ClassVar[str]
    learns_texts: ClassVar[bool] = False
    has_source: ClassVar[bool] = False
    source_hint: ClassVar[str | None] = None
    has_own_layout: ClassVar[bool] = False
    has_paper_split: ClassVar[bool] = False
    default_text_metrics: ClassVar[tuple[TextMetric, ...]] = ()
    default_new_tokens: ClassVar[int | None] = None

    @property
    def title(self) -> str:
        """The task in a word, such as glue/sst2."""
        subset = getattr(self, "subset", None)
        return f"{self.name}/{subset}" if subset else self.name

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """The metrics that can choose the best checkpoint, the default first."""
        raise NotImplementedError

    @property
    def writes_text(self) -> bool:
        """Whether the answers are texts that a model writes."""
        return True

    @property
    def is_regression(self) -> bool:
        """Whether the answers are numbers."""
        return False

    @property
    def heading(self) -> Heading | None:
        """The column that published tables have for the task; None where there is no such table."""
        return None

    @property
    def chat_template(self) -> TemplateChoice | None:
        """The chat template of conversations; None for a task without any."""
        return None

    def why_no_text(self, metric: str | None) -> str | None:
        """Why nothing is generated although the task writes texts, where `metric` chooses; None where texts are."""
        return None

    def columns_read(self, columns: Columns) -> dict[str, str | None]:
        """What each column, named or by default, is read as; empty where the recipe names no column."""
        return {}

    def conflicting_files(self, data: Data) -> list[str]:
        """The keys of single files that contradict data.path where both are given."""
        return [name for name in ("train", "validation", "test") if getattr(data, name) is not None]

    def faults(self, data: Data, train: Train) -> list[KeyFault]:
        """Keys that the task does not read, or that contradict one another: (key path, what is wrong)."""
        others = [name for name in Columns.model_fields if name not in (*_CONVERSATIONS, *self.reads)]
        unread = [name for name in others if getattr(data.columns, name)]
        faults: list[KeyFault] = [(("data", "columns", name), f"{self.name} has {self.rows}") for name in unread]
        return faults if "messages" in self.reads else [*faults, *_faults_of_conversations(data)]

    def mistakes(self, data: Data) -> list[KeyFault]:
        """Values of the task's keys that can only be a mistake: (key path, what is wrong)."""
        return []


class LabelSettings(TaskSettings):
    """The settings of a task that answers a text or a pair of texts with a label or a number."""

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

    def columns_read(self, columns: Columns) -> dict[str, str | None]:
        return {"text": columns.text, "text_pair": columns.text_pair, _LABEL: columns.label or _LABEL}

    def faults(self, data: Data, train: Train) -> list[KeyFault]:
        faults = super().faults(data, train)
        own = type(self).model_fields
        if not self.text_to_text:
            idle = [name for name in ("prompt_template", "label_texts", "decimals") if name in own]
            changed = [name for name in idle if getattr(self, name) != own[name].default]
            faults += [(("task", name), "has an effect only with task.text_to_text: true") for name in changed]
        if self.prompt_template is not None and (data.columns.text or data.columns.text_pair):
            faults.append((("task", "prompt_template"), "give it or data.columns.text, not both"))
        return faults

    def mistakes(self, data: Data) -> list[KeyFault]:
        label = data.columns.label or _LABEL
        if self.prompt_template is None or label not in fields(self.prompt_template):
            return []
        return [
            (("task", "prompt_template"), f"{label!r} is the column of the label: the answer would be in the prompt")
        ]


class TextSettings(TaskSettings):
    """The settings of a task that answers with texts of any form."""

    learns_texts: ClassVar[bool] = True
    default_new_tokens: ClassVar[int | None] = DEFAULT_NEW_TOKENS

    @property
    def metrics(self) -> tuple[Metric, ...]:
        return ("loss", "exact_match", *TEXT_METRICS)


class CompletionSettings(TextSettings):
    """The settings of a task that completes a prompt."""

    reads: ClassVar[tuple[str, ...]] = ("prompt", "completion")
    rows: ClassVar[str] = "a prompt and a completion"

    def columns_read(self, columns: Columns) -> dict[str, str | None]:
        named = {part: getattr(columns, part) for part in self.reads if self.template(part) is None}
        return {part: name or part for part, name in named.items()} if any(named.values()) else {}

    def template(self, part: str) -> str | None:
        """The text with columns in braces that a prompt or a completion is made by; None: it is a column."""
        return None


def _faults_of_conversations(data: Data) -> list[KeyFault]:
    """Keys of conversations, in another task."""
    columns = [("data", "columns", name) for name in _CONVERSATIONS if getattr(data.columns, name) is not None]
    keys: list[tuple[str, ...]] = [
        *columns,
        *(("data", name) for name in ("streaming", "max_prompt_length") if getattr(data, name)),
    ]
    faults: list[KeyFault] = [(path, "is of the task instruction") for path in keys]
    if data.too_long == "drop":
        faults.append((("data", "too_long"), "drop is of the task instruction; cut or refuse"))
    return faults
