"""`red report` as a user runs it: its files, its pictures, its errors."""

from __future__ import annotations

import json
import math
import re
import shutil
import struct
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest

from red_cli.edit.adapter_config import WEIGHTS_FILE
from red_cli.errors import UserError
from red_cli.formatting import three_digits
from red_cli.recipe.load import load_recipe
from red_cli.report.adapter_changes import read_adapter_changes
from red_cli.report.document import Fact, Quote, ReportDocument, Section, Table, render_html, render_markdown
from red_cli.report.draw_many_runs import draw_comparison
from red_cli.report.draw_one_run import draw_curve, draw_heat_map
from red_cli.report.picture import SMALL, WIDTH, Picture
from red_cli.report.training_log import Curve, read_curve
from tests.extras import needs_extra
from tests.report.finished import finished_run
from tests.report.full_run import full_run
from tests.report.test_adapter_changes import adapter
from tests.report.test_comparison import eight_tasks
from tests.tiny import read_lines

NASTY = '<script>alert("a & b")</script> $x_1$ | *y*'


def size_of(png: bytes) -> tuple[int, int]:
    """Width and height in pixels, from the file's header."""
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    return struct.unpack(">II", png[16:24])


class Page(HTMLParser):
    """Tags, attributes and text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        self.text += data

    def require_self_contained(self) -> None:
        assert not {"script", "link", "iframe", "object"} & set(self.tags)
        ids = [value for name, value in self.attributes if name == "id"]
        assert len(ids) == len(set(ids))
        for name, value in self.attributes:
            assert not name.startswith("on")
            assert name not in ("href", "src", "srcset")
            assert name != "xlink:href" or value.startswith("#")
        assert "url(" not in self.text
        assert "@import" not in self.text


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, base: Path, data: Path) -> Path:
    """A run of the tiny base, with two evaluations."""
    from red_cli.train.loop import train

    folder = tmp_path_factory.mktemp("trained") / "run"
    keys = [f"model.name_or_path={base}", f"data.path={data}", f"output.dir={folder}", "train.num_train_epochs=2",
            "train.batch_size=16", "train.micro_batch_size=16", "train.logging_steps=1"]  # fmt: skip
    train(load_recipe("classification", overrides=keys))
    return folder


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(trained, tmp_path / "run"))


@needs_extra("plot")
def test_a_run(red, run: Path) -> None:
    outcome = red("report", run)
    assert outcome.code == 0, outcome.err
    assert outcome.err == ""
    assert len(outcome.out.splitlines()) <= 24
    for words in ("accuracy", "scale − 1", "bias", "changed most", str(run / "report" / "report.html")):
        assert words in outcome.out
    names = {path.name for path in (run / "report").iterdir()}
    assert names == {"report.html", "report.md", "report.json", "heat_map.png", "learning_curve.png"}
    page = Page((run / "report" / "report.html").read_text())
    page.require_self_contained()
    assert page.tags.count("svg") == 2
    spread = json.loads((run / "output_spread.json").read_text())
    changes = read_adapter_changes(run / "adapter")
    assert list(spread["modules"]) == [module.path for module in changes.modules]
    assert all(value > 0 for value in spread["modules"].values())
    text = (run / "report" / "report.md").read_text()
    assert [path for path in re.findall(r"!\[.*?\]\((.*?)\)", text) if (run / "report" / path).is_file()] == [
        "learning_curve.png", "heat_map.png",
    ]  # fmt: skip
    assert red("eval", run).code == 0  # the run is as good as before


def test_its_figures_are_the_runs(red, run: Path) -> None:
    found = red("report", run, "--json").json
    assert found["metrics"] == json.loads((run / "metrics.json").read_text())
    written = json.loads((run / "report" / "report.json").read_text())
    assert written == {key: value for key, value in found.items() if key != "files"}
    log = read_lines(run / "log.jsonl")
    assert [point["value"] for point in found["curve"]["loss"]] == [line["loss"] for line in log if "loss" in line]
    assert [point["step"] for point in found["curve"]["score"]] == [6, 12]
    assert max(point["value"] for point in found["curve"]["score"]) == found["metrics"]["best"]["value"]
    changes = read_adapter_changes(run / "adapter")
    assert [module["scale"]["rms"] for module in found["learnt"]["modules"]] == [
        module.changes["scale"].rms for module in changes.modules
    ]
    assert all(module["scale"]["rms"] > 0 for module in found["learnt"]["modules"])


def test_a_report_is_written_again_but_never_over_anything_else(red, run: Path, tmp_path: Path) -> None:
    for _ in range(2):
        assert red("report", run).code == 0
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.tex").write_text("mine")
    outcome = red("report", run, "--output", mine, "--json")
    assert (outcome.code, outcome.json["error"]["code"]) == (2, "output-exists")
    assert "thesis.tex" in outcome.err
    assert [path.name for path in mine.iterdir()] == ["thesis.tex"]
    assert red("report", run, "--output", mine / "thesis.tex").code == 2
    assert red("report", run, "-o", tmp_path / "new" / "place").code == 0
    assert (tmp_path / "new" / "place" / "report.html").is_file()


def test_a_report_that_cannot_be_written_leaves_nothing(
    red, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real_write, written = Path.write_bytes, []

    def write(path: Path, content: bytes) -> int:
        written.append(path)
        if len(written) == 3:
            raise OSError(28, "No space left on device", str(path))
        return real_write(path, content)

    monkeypatch.setattr(Path, "write_bytes", write)
    outcome = red("report", run, "--json")
    assert (outcome.code, outcome.json["error"]["code"]) == (2, "disk-full")
    assert not (run / "report").exists()


def test_a_bare_adapter(red, tmp_path: Path) -> None:
    folder = adapter(tmp_path / "adapter", "t5", components=["bias"])
    found = red("report", folder, "--output", tmp_path / "out", "--json").json
    assert (found["metrics"], found["curve"]) == (None, None)
    assert {module["kind"] for module in found["learnt"]["modules"]} == {"encoder ffn", "decoder ffn"}
    assert all("scale" not in module for module in found["learnt"]["modules"])
    assert not (tmp_path / "out" / "learning_curve.png").exists()
    assert "decoder ffn" in red("report", folder, "-o", tmp_path / "out").out


@needs_extra("plot")
def test_runs_in_one_table(red, tmp_path: Path) -> None:
    eight_tasks(tmp_path / "runs")
    outcome = red("report", tmp_path / "runs")
    assert outcome.code == 0, outcome.err
    out = tmp_path / "runs" / "report"
    assert {path.name for path in out.iterdir()} == {"report.html", "report.md", "report.json", "comparison.png"}
    page = Page((out / "report.html").read_text())
    page.require_self_contained()
    assert page.tags.count("svg") == 1
    table = (out / "report.md").read_text().split("\n\n")[2].splitlines()
    assert [cell.strip() for cell in table[0].split("|")][4:13] == [
        "MNLI", "SST-2", "MRPC", "CoLA", "QNLI", "QQP", "RTE", "STS-B", "Avg.",
    ]  # fmt: skip
    assert len(table) == 2 + 4
    assert "84.20 / 84.30" in table[2]
    assert "*83.9 ± 0.14*" in table[3]
    named = [tmp_path / "runs" / f"mnli-{seed}" for seed in (42, 43)]
    data = red("report", *named, "--output", tmp_path / "two", "--json").json
    assert [task["seeds"].keys() for row in data["rows"] for task in row["tasks"]] == [{"42", "43"}]


def test_other_methods_have_no_heat_map(red, tmp_path: Path) -> None:
    folder = finished_run(tmp_path / "run", method="lora")
    outcome = red("report", folder)
    assert outcome.code == 0, outcome.err
    assert "method is lora" in outcome.out
    assert "learning curve" in outcome.out  # there is no log either
    assert not (folder / "report" / "heat_map.png").exists()


@pytest.mark.parametrize("many", [False, True])
def test_without_matplotlib_all_but_the_pictures_is_there(
    red, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, many: bool
) -> None:
    folder = tmp_path / "x"
    if many:
        finished_run(folder / "run")
    else:
        adapter(folder)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    outcome = red("report", folder)
    assert outcome.code == 0, outcome.err
    assert outcome.err.count("red-finetune[plot]") == 1
    assert len(outcome.err.splitlines()) == 1
    assert not list((folder / "report").glob("*.png"))
    page = Page((folder / "report" / "report.html").read_text())
    assert "svg" not in page.tags
    assert page.tags.count("table") >= 2
    assert "red-finetune[plot]" in page.text


def unfinish(run: Path) -> None:
    (run / "metrics.json").unlink()


# what is done to a finished run -> code of the error, a fact in its message
FAULTS: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "not there": (shutil.rmtree, "folder-not-found", "/run"),
    "unfinished": (unfinish, "run-unfinished", "/run"),
    "no run": (lambda run: (run / "recipe.yaml").unlink(), "not-a-run", "/run"),
    "no adapter": (lambda run: shutil.rmtree(run / "adapter"), "file-not-found", "/run"),
    "a damaged adapter": (
        lambda run: (run / "adapter" / WEIGHTS_FILE).write_bytes(b"1234"),
        "file-damaged",
        WEIGHTS_FILE,
    ),
    "damaged metrics": (lambda run: (run / "metrics.json").write_text("[]"), "file-damaged", "metrics.json"),
    "a damaged log": (
        lambda run: (run / "log.jsonl").write_text('{"step": 1, "loss": 1}\n{"st'),
        "file-damaged",
        "log.jsonl, line 2",
    ),
    "exported": (lambda run: (run / "config.json").write_text("{}"), "not-a-run", "/run"),
}


@pytest.mark.parametrize(("damage", "code", "fact"), FAULTS.values(), ids=FAULTS.keys())
def test_faults(red, tmp_path: Path, damage: Callable[[Path], object], code: str, fact: str) -> None:
    run = finished_run(tmp_path / "run")
    adapter(run / "adapter")
    damage(run)
    outcome = red("report", run, "--json")
    assert (outcome.code, outcome.json["error"]["code"]) == (2, code), outcome.err
    assert fact in outcome.json["error"]["message"]
    assert outcome.err.startswith("error: ")
    assert len(outcome.err.splitlines()) <= 4
    assert not (run / "report").exists()


def test_an_unfinished_run_says_where_to_look(red, tmp_path: Path) -> None:
    run = finished_run(tmp_path / "run")
    adapter(run / "adapter")
    unfinish(run)
    assert str(run / "adapter") in red("report", run).err
    assert red("report", run / "adapter").code == 0


def test_a_curve_reads_what_a_log_may_hold(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    lines = [
        {"step": 10, "loss": 0.5, "learning_rate": 0.1}, {"step": 10, "validation_f1": 0.4, "validation_accuracy": 0.6},
        {"step": 20, "loss": math.nan}, {"step": 21, "not_finite": "loss nan", "rows": [1]},
    ]  # fmt: skip
    log.write_text("\n".join(json.dumps(line) for line in lines) + "\n")
    curve = read_curve(log, "f1", "validation")
    assert (curve.losses, curve.scores) == ([(10, 0.5)], [(10, 0.4)])
    assert read_curve(tmp_path / "none", "f1", "validation") == Curve("f1", "validation")
    log.write_text("1\n")
    with pytest.raises(UserError, match="line 1 ") as caught:
        read_curve(log, "f1", "validation")
    assert caught.value.code == "file-damaged"


@needs_extra("plot")
def test_pictures_have_the_size_of_what_they_show(tmp_path: Path) -> None:
    heat_maps = [
        draw_heat_map(read_adapter_changes(adapter(tmp_path / str(number), **red)))
        for number, red in enumerate([{"components": ["bias"]}, {}, {"positions": ["ffn", "attn", "query"]}])
    ]
    curves = [
        draw_curve(Curve("f1", "validation", [(1, 0.5)]), None),
        draw_curve(Curve("f1", "validation", [(step, 1 / step) for step in range(1, 99)], [(50, 0.5), (98, 0.6)]), 98),
    ]
    sizes = [size_of(picture.png) for picture in [*heat_maps, *curves]]
    assert {width for width, _ in sizes} == {round(WIDTH * 200)}
    heights = [height for _, height in sizes]
    assert heights[0] * 2 == heights[1] < heights[2]
    assert heights[3] < heights[4]


@needs_extra("plot")
def test_a_picture_on_a_page_scales_and_takes_its_colours(tmp_path: Path) -> None:
    curve = Curve("f1", "validation", [(1, 0.5), (9, 0.2)], [(5, 0.5), (9, 0.6)], steps_per_epoch=3.0, untuned=0.1)
    for picture in (draw_curve(curve, 9), draw_heat_map(read_adapter_changes(adapter(tmp_path)))):
        svg = ElementTree.fromstring(picture.svg)
        assert {"viewBox", "role", "aria-label"} <= set(svg.keys())
        assert not {"width", "height"} & set(svg.keys())
        colours = re.findall(r"(var\(--[^)]*\)|#[0-9a-fA-F]{6})", picture.svg)
        assert colours
        assert [colour for colour in colours if not colour.startswith("var(")] == []
        texts = [element for element in svg.iter() if element.tag.endswith("text")]
        assert texts
        assert all(float(re.search(r"font-size: ([\d.]+)px", text.get("style"))[1]) >= SMALL for text in texts)
    drawn = {text.text for text in ElementTree.fromstring(draw_curve(curve, 9).svg).iter() if text.text}
    assert {"epoch", "optimiser step", "untuned: 10.00", "best: 60.00 at step 9"} <= drawn


@needs_extra("plot")
def test_the_same_data_give_the_same_picture(tmp_path: Path) -> None:
    changes = read_adapter_changes(adapter(tmp_path))
    assert draw_heat_map(changes) == draw_heat_map(changes)


@needs_extra("plot")
def test_a_picture_takes_any_name(tmp_path: Path) -> None:
    from red_cli.report.many_runs import compare_runs

    finished_run(tmp_path / "run", "classification", f"data.path={tmp_path}", f"model.name_or_path=a/{NASTY[:20]}$_^$")
    picture = draw_comparison(compare_runs([tmp_path]))
    assert size_of(picture.png)[0] > 0
    assert ElementTree.fromstring(picture.svg).get("viewBox")


def test_text_is_escaped() -> None:
    table = Table(["", NASTY], [[NASTY, "1"]], shades=[[None, 0.5]])
    picture = Picture("heat_map.png", b"png", "<svg></svg>", NASTY)
    section = Section(
        NASTY, NASTY, [Fact(NASTY, NASTY, NASTY)], picture, table, [Quote(NASTY, [(NASTY, NASTY)])], [NASTY]
    )
    document = ReportDocument(NASTY, [section])
    page = Page(render_html(document))
    page.require_self_contained()
    assert (
        page.text.count(NASTY) == 14
    )  # title, its heading, and each block; two in the table, three in a fact and quote
    text = render_markdown(document)
    assert not re.search(
        r"(?<!\\)[<|$]|(?<![\\*])\*(?!\*)", text.replace(" | ", "").replace("| ", "").replace(" |", "")
    )


def test_rows_are_named(tmp_path: Path, red) -> None:
    folder = full_run(tmp_path / "run", layers=3)
    assert red("report", folder).code == 0
    page = (folder / "report" / "report.html").read_text()
    tables = [ElementTree.fromstring(table) for table in re.findall(r"<table>.*?</table>", page, re.DOTALL)]
    assert len(tables) > 8
    for table in tables:
        for row in table.find("tbody"):
            assert [cell.get("scope") for cell in row if cell.tag == "th"] == ["row"]


def test_three_digits_that_count() -> None:
    shown = {
        0.0: "0",
        0.05912: "0.0591",
        13.24: "13.2",
        123.4: "123",
        1.0: "1.00",
        4.5e-7: "4.50e-7",
        2345.0: "2.34e+3",
    }
    assert {value: three_digits(value) for value in shown} == shown
