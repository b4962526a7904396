"""The content of a report, and its rendering as HTML and as Markdown by Jinja templates."""

from __future__ import annotations

import base64
import html
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from red_cli.escape import markdown_text, terminal_text


@dataclass(frozen=True)
class Picture:
    """A PNG picture. `name` is its file name, and `caption` describes it in words."""

    name: str
    png: bytes
    caption: str

    @property
    def base64(self) -> str:
        return base64.b64encode(self.png).decode()


@dataclass(frozen=True)
class Table:
    """A table of texts. The first `left` columns are words, the others are numbers.

    Attributes:
        reference: indices of the rows that hold published figures for comparison.
        shades: for each cell a value from 0 (white) to 1 (darkest) or None, if the table is also a heat map.
    """

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    left: int = 1
    reference: frozenset[int] = frozenset()
    shades: Sequence[Sequence[float | None]] | None = None


@dataclass(frozen=True)
class Section:
    """A part of a report. Its fields are shown in this order; empty ones are omitted."""

    heading: str = ""
    text: str = ""
    picture: Picture | None = None
    table: Table | None = None
    items: Sequence[str] = ()


@dataclass
class ReportDocument:
    """A report: its title and its sections."""

    title: str
    sections: list[Section] = field(default_factory=list)

    @property
    def pictures(self) -> list[Picture]:
        return [section.picture for section in self.sections if section.picture is not None]


def render_html(document: ReportDocument) -> str:
    """The report as one HTML page with its styles and pictures embedded, without scripts or links."""
    return _render("report.html.jinja", lambda text: html.escape(terminal_text(text)), document)


def render_markdown(document: ReportDocument) -> str:
    """The report as Markdown that refers to its pictures by file name."""
    return _render("report.md.jinja", markdown_text, document)


def _render(template: str, escape: Callable[[str], str], document: ReportDocument) -> str:
    """Render a template whose every expression is escaped by `escape`, except values marked as safe."""
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
