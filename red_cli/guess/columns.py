"""What each column of a data file holds: texts, classes, numbers, messages, or nothing that a task reads."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

from red_cli.errors import UserError
from red_cli.tasks.chat.messages import decoded
from red_cli.tasks.data.rows import Rows, plain_column_name
from red_cli.tasks.labels.classes import is_blank

Kind = Literal["text", "word", "classes", "number", "count", "id", "date", "messages", "object", "constant", "blank"]

_SAMPLE = 5000  # rows that are looked at, evenly spread, since a file may be sorted
_MOST_CLASSES = 100  # of a column whose name does not say that it is the label
_MOST_WHOLE_NUMBERS = 20  # distinct whole numbers that are still classes
_LEAST_REPEATS = 5  # rows a class, in such a column
_FEW_ROWS = 50  # fewer rows than these repeat a class less often
_MOST_SINGLE = 0.05  # share of the rows whose class has no other row
_LONGEST_CLASS = 60  # characters of a class name, on average
_LEAST_WORDS, _LEAST_CHARACTERS = 3.0, 20.0  # of a text, on average; shorter ones are words
_ALMOST_ALL = 0.95
_LABEL_NAMES = (
    {"label", "labels", "target", "class", "gold", "gold_label", "y"},
    {"category", "intent", "sentiment", "topic", "emotion", "polarity", "stance", "tag", "answer", "score", "rating",
     "stars", "similarity", "grade", "klasse", "kategorie", "thema", "label_text", "label_name"},
)  # fmt: skip
_ID_NAME = re.compile(r"(?:.*_)?(?:id|idx|index|nr|no|number|uuid|guid|key|row|unnamed_\d+)|")
_DATE_NAME = re.compile(r"(?:.*_)?(?:date|time|timestamp|datetime|year|created|updated|day|month)(?:_at|_on)?")
_DATE = re.compile(
    r"(?:\d{4}-\d{1,2}-\d{1,2}|\d{1,2}[./]\d{1,2}[./]\d{2,4})(?:[T ]\d{1,2}:\d{2}.*)?|\d{1,2}:\d{2}(?::\d{2})?"
)
_ONE_TOKEN = re.compile(r"\S+")
_ADDRESS = re.compile(r"https?://\S+|www\.\S+|[^@\s]+@[^@\s]+\.\w+")


@dataclass(frozen=True)
class Column:
    """A column, as far as a sample of its values shows it.

    Attributes:
        distinct: different values in the sample.
        words: mean number of words of a value.
        blank: share of the values that are null or blank.
        values: the most frequent values.
    """

    name: str
    kind: Kind
    distinct: int = 0
    words: float = 0.0
    blank: float = 0.0
    values: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """The name in lower case, with underscores."""
        return plain_column_name(self.name)

    @property
    def rank(self) -> int:
        """How clearly the name says that this is the label: 0 most clearly, 2 not at all."""
        return next((rank for rank, names in enumerate(_LABEL_NAMES) if self.key in names), len(_LABEL_NAMES))


def judged_columns(rows: Rows) -> list[Column]:
    """What each column of the rows holds."""
    total = rows.table.num_rows
    step = -(-total // _SAMPLE)
    sample = rows if step == 1 else rows.take(list(range(0, total, step)))
    return [_judged(sample, name) for name in rows.table.column_names]


def _judged(rows: Rows, name: str) -> Column:
    """What a column of the sample holds; one that cannot be read is no column of texts or labels."""
    try:
        values = rows.column(name)
    except UserError:
        return Column(name, "object")
    present = [value for value in values if not is_blank(value)]
    if not present:
        return Column(name, "blank", blank=1.0)
    blank = 1 - len(present) / len(values)
    if any(_is_messages(value) for value in present[:5]):
        return Column(name, "messages", blank=blank)
    if any(isinstance(value, list | dict) for value in present):
        return Column(name, "object", blank=blank)
    texts = [_text(value) for value in present]
    counts = Counter(texts)
    words = sum(len(text.split()) for text in texts) / len(texts)
    common = tuple(text for text, _ in counts.most_common(_MOST_CLASSES))
    return Column(name, _kind(plain_column_name(name), texts, counts, words), len(counts), words, blank, common)


def _kind(key: str, texts: Sequence[str], counts: Counter[str], words: float) -> Kind:
    """The kind of a column, by its plain name and its values without blanks."""
    if len(counts) == 1:
        return "constant"
    numbers = _numbers(texts)
    if numbers is not None:
        return _kind_of_numbers(key, numbers)
    if sum(_DATE.fullmatch(text) is not None for text in texts) >= _ALMOST_ALL * len(texts):
        return "date"
    if _are_classes(key, texts, counts):
        return "classes"
    if sum(_ADDRESS.fullmatch(text) is not None for text in texts) >= _ALMOST_ALL * len(texts):
        return "id"
    length = sum(map(len, texts)) / len(texts)
    is_token = sum(_ONE_TOKEN.fullmatch(text) is not None for text in texts) >= _ALMOST_ALL * len(texts)
    if is_token and (_ID_NAME.fullmatch(key) or sum(any(map(str.isdigit, text)) for text in texts) > len(texts) / 2):
        return "id"
    return "text" if words >= _LEAST_WORDS or (length >= _LEAST_CHARACTERS and not is_token) else "word"


def _kind_of_numbers(key: str, numbers: Sequence[float]) -> Kind:
    """The kind of a column of numbers: whole ones may be classes, numbers of rows, dates or counts."""
    distinct = set(numbers)
    named = any(key in names for names in _LABEL_NAMES)
    if any(not number.is_integer() for number in distinct):
        return "number"
    if not named and _ID_NAME.fullmatch(key):
        return "id"
    if not named and _DATE_NAME.fullmatch(key):
        return "date"
    if len(distinct) <= _MOST_WHOLE_NUMBERS and len(distinct) <= len(numbers) / 2:
        return "classes"
    rising = all(before < after for before, after in pairwise(numbers))
    if rising and not named and len(numbers) > 2:
        return "id"
    return "number" if named else "count"


def _are_classes(key: str, texts: Sequence[str], counts: Counter[str]) -> bool:
    """Whether the texts of a column are names of classes: short, and each in several rows."""
    if sum(map(len, counts)) / len(counts) > _LONGEST_CLASS:
        return False
    repeats = len(texts) / len(counts)
    if key in _LABEL_NAMES[0] and len(texts) < _FEW_ROWS:
        return repeats > 1
    if len(texts) < _FEW_ROWS or any(key in names for names in _LABEL_NAMES):
        return repeats >= 2
    single = sum(count == 1 for count in counts.values())
    return repeats >= _LEAST_REPEATS and len(counts) <= _MOST_CLASSES and single <= _MOST_SINGLE * len(texts)


def _numbers(texts: Sequence[str]) -> list[float] | None:
    """The numbers that all texts are, or None; with a leading zero, a text is a code and no number."""
    numbers = []
    for text in texts:
        digits = text.lstrip("+-")
        if not digits[:1].isdigit() and not digits.startswith("."):
            return None
        if digits[0] == "0" and digits[1:2].isdigit():
            return None
        try:
            numbers.append(float(text))
        except ValueError:
            return None
    return numbers


def _is_messages(value: Any) -> bool:
    """Whether a value of a column is a list of messages, or the JSON of one."""
    if isinstance(value, str) and not value.lstrip().startswith("[{"):
        return False
    found = decoded(value)
    if not isinstance(found, list) or not found or not isinstance(found[0], dict):
        return False
    return {"role", "content"} <= found[0].keys() or {"from", "value"} <= found[0].keys()


def _text(value: Any) -> str:
    """A value as text: truth values in lower case, whole numbers without decimals."""
    if isinstance(value, bool):
        return str(value).lower()
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value).strip()
