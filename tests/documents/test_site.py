"""The site: its navigation, links to files of the repository, and pages that ask no other host for anything."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
CONFIG = ROOT / "mkdocs.yml"
PAGES = sorted(path.relative_to(DOCS).as_posix() for path in DOCS.glob("**/*.md"))
REPOSITORY = re.compile(r"https://github\.com/red-finetune/red/(?:blob|tree|raw)/main/([^\s)#>\"']*)")


def in_navigation(part: object) -> list[str]:
    if isinstance(part, str):
        return [part]
    return [page for inner in (part.values() if isinstance(part, dict) else part) for page in in_navigation(inner)]


def test_every_page_is_in_the_navigation_once() -> None:
    listed = in_navigation(yaml.safe_load(CONFIG.read_text())["nav"])
    assert sorted(page for page in listed if not page.startswith("https://")) == PAGES


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "mkdocs.yml", *(f"docs/{page}" for page in PAGES)])
def test_links_to_the_repository_name_files(name: str) -> None:
    links = set(REPOSITORY.findall((ROOT / name).read_text()))
    assert [link for link in links if not (ROOT / link).exists()] == []


class Requests(HTMLParser):
    """What a browser loads with a page; links that somebody has to follow are none of it."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "link" and given.get("rel") not in ("canonical", "next", "prev", "alternate"):
            self.found.append(given["href"])
        self.found += [given[name] for name in ("src", "srcset", "data", "poster") if name in given and tag != "a"]


def test_the_site_builds_without_a_warning_and_asks_no_other_host(tmp_path: Path, monkeypatch) -> None:
    pytest.importorskip("material", reason="needs the extra docs")
    monkeypatch.setenv("NO_MKDOCS_2_WARNING", "1")
    from mkdocs.commands.build import build
    from mkdocs.config import load_config

    build(load_config(str(CONFIG), site_dir=str(tmp_path), strict=True))
    pages = list(tmp_path.glob("**/*.html"))
    assert len(pages) > len(PAGES)
    for page in pages:
        requests = Requests()
        requests.feed(page.read_text())
        assert [url for url in requests.found if re.match(r"(?:https?:)?//", url)] == [], page
        assert 'data-md-component="source"' not in page.read_text()  # the theme would ask GitHub for stars
    for style in tmp_path.glob("**/*.css"):
        assert not re.search(r"url\(\s*[\"']?(?:https?:)?//|@import", style.read_text()), style
