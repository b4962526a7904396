"""The content of a report, and its rendering as HTML and as Markdown by Jinja templates."""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from red_cli.escape import markdown_text, terminal_text
from red_cli.report.picture import Picture


@dataclass(frozen=True)
class Table:
    """A table of texts. The first `left` columns are words, the others are numbers.

    Attributes:
        name: the index of the column whose cells name their rows.
        reference: indices of the rows that hold published figures for comparison.
        shades: for each cell a value from 0 (none) to 1 (strongest) or None, if the table is also a heat map.
        hue: the colour of the heat map, a name of the style sheet's.
    """

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    left: int = 1
    name: int = 0
    reference: frozenset[int] = frozenset()
    shades: Sequence[Sequence[float | None]] | None = None
    hue: str = "scale"


@dataclass(frozen=True)
class Fact:
    """A figure that stands out: what it is, its value, and a remark in small print."""

    label: str
    value: str
    remark: str = ""


@dataclass(frozen=True)
class Quote:
    """Texts of the user's data or of a model, each after a word that says what it is."""

    title: str
    parts: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Section:
    """A part of a report. Its fields are shown in this order; empty ones are omitted.

    Attributes:
        folded: whether a page shows the table and the quotes only when they are opened; `heading` then opens them.
    """

    heading: str = ""
    text: str = ""
    facts: Sequence[Fact] = ()
    picture: Picture | None = None
    table: Table | None = None
    quotes: Sequence[Quote] = ()
    items: Sequence[str] = ()
    folded: bool = False


@dataclass
class ReportDocument:
    """A report: its title and its sections."""

    title: str
    sections: list[Section] = field(default_factory=list)

    @property
    def pictures(self) -> list[Picture]:
        return [section.picture for section in self.sections if section.picture is not None]


def render_html(document: ReportDocument) -> str:
    """The document as one HTML page with its styles and pictures embedded, without scripts or links."""
    return _render("report.html.jinja", lambda text: html.escape(terminal_text(text)), document)


def render_markdown(document: ReportDocument) -> str:
    """The report as Markdown that refers to its pictures by file name."""
    return _render("report.md.jinja", markdown_text, document)


def markdown_table(table: Table) -> str:
    """One table of a report's document as Markdown."""
    lines = render_markdown(ReportDocument("", [Section(table=table)])).splitlines()
    return "\n".join(line for line in lines if line.startswith("|")) + "\n"


def _render(template: str, escape: Callable[[str], str], document: ReportDocument) -> str:
    """Render a document by a Jinja template; `escape` is applied to all values but those marked as safe."""
    environment = Environment(
        loader=PackageLoader("red_cli.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=lambda value: value if isinstance(value, Markup) else Markup(escape(str(value))),  # noqa: S704
    )
    return environment.get_template(template).render(document=document)
