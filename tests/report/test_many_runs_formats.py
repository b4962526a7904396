"""Tables of many runs to paste, their paired differences, and their untuned scores."""

from __future__ import annotations

import csv
import io
import shutil
import subprocess
from pathlib import Path

import pytest
from scipy.stats import ttest_rel

from red_cli.escape import latex_text
from red_cli.report.difference_sections import differences_to_reference
from red_cli.report.draw_score_by_parameters import draw_score_by_parameters, has_scores_by_parameters
from red_cli.report.many_runs import compare_runs
from tests.extras import needs_extra
from tests.report.finished import finished_run
from tests.report.full_run import methods_and_seeds

DOCUMENT = (
    r"\documentclass{article}\usepackage[T1]{fontenc}\usepackage{booktabs}\begin{document}\input{table}\end{document}"
)
HOSTILE = r"\input{x} 50% of_$^2$ & #1 {~} <|> “é” ± 試"


def test_latex(red, tmp_path: Path) -> None:
    outcome = red("report", methods_and_seeds(tmp_path / "runs"), "--format", "latex")
    assert outcome.code == 0, outcome.err
    assert not (tmp_path / "runs" / "report").exists()
    rows = [line.removesuffix(r" \\").split(" & ") for line in outcome.out.splitlines() if line.endswith(r"\\")]
    assert rows[0] == ["Method", "Parameters", "RTE"]
    assert ["RED", "18,432", r"78.40 $\pm$ 0.40"] in rows
    assert {row[0] for row in rows[1:]} >= {"RED", "LoRA", "full fine-tuning", "untuned"}
    for rule in (r"\toprule", r"\midrule", r"\bottomrule", r"\end{tabular}"):
        assert outcome.out.count(rule) == 1
    assert "Base: FacebookAI/roberta-base" in outcome.out.splitlines()[0]


@pytest.mark.slow
@pytest.mark.skipif(
    shutil.which("pdflatex") is None, reason="needs pdflatex (apt-get install texlive-latex-recommended)"
)
def test_latex_compiles(red, tmp_path: Path) -> None:
    base = f"model.name_or_path={HOSTILE.replace('/', '')}"
    for name in ("rte", "mrpc"):
        finished_run(tmp_path / "runs" / name, f"glue_{name}", base)
        finished_run(tmp_path / "runs" / f"{name}-roberta", f"glue_{name}")
    (tmp_path / "table.tex").write_text(red("report", tmp_path / "runs", "--format", "latex").out)
    (tmp_path / "document.tex").write_text(DOCUMENT)
    command = ["pdflatex", "-halt-on-error", "-no-shell-escape", "-interaction=nonstopmode", "document.tex"]
    outcome = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert outcome.returncode == 0, outcome.stdout[-2000:]
    assert (tmp_path / "document.pdf").stat().st_size > 1000


def test_latex_is_escaped() -> None:
    text = latex_text(HOSTILE + "\n\x1b")
    assert text.startswith(r"\textbackslash{}input\{x\} 50\% of\_\$\textasciicircum{}2\$ \& \#1 \{\textasciitilde{}\}")
    assert text.isprintable()
    assert "[U+8A66]" in text


def test_csv_and_markdown(red, tmp_path: Path) -> None:
    folder = methods_and_seeds(tmp_path / "runs", seeds=2)
    rows = list(csv.DictReader(io.StringIO(red("report", folder, "--format", "csv").out)))
    found = {row["method"]: row for row in rows}
    assert len(rows) == 5
    assert (found["RED"]["parameters"], found["RED"]["seeds"], found["RED"]["paper"]) == ("18432", "2", "78.0")
    assert float(found["LoRA"]["mean"]) == pytest.approx(76.2)
    assert found["LoRA"]["by_seed"] == "42=76.0000 43=76.4000"
    assert (found["untuned"]["parameters"], found["untuned"]["paper"]) == ("0", "")
    lines = red("report", folder, "--format", "md").out.splitlines()
    assert lines[0] == "| base | method | parameters | RTE |"
    assert "| FacebookAI/roberta-base | LoRA | 294,912 | 76.00 / 76.40 |" in lines


@pytest.mark.parametrize("option", [("--output", "x"), ("--json",)])
def test_options_that_do_not_go_with_a_format(red, tmp_path: Path, option: tuple[str, ...]) -> None:
    outcome = red("report", finished_run(tmp_path / "run"), "--format", "csv", *option)
    assert outcome.code == 2
    assert option[0] in outcome.err
    assert not (tmp_path / "x").exists()


def test_differences_are_paired_by_seed(tmp_path: Path) -> None:
    ours, theirs = {42: 0.80, 43: 0.83, 44: 0.81}, {42: 0.79, 43: 0.80, 44: 0.805, 45: 0.1}
    for method, scores in {"red": ours, "lora": theirs}.items():
        for seed, score in scores.items():
            finished_run(
                tmp_path / method / str(seed), "glue_rte", f"method={method}", seed=seed, score=score, method=method
            )
    (found,) = differences_to_reference(compare_runs([tmp_path]))
    assert (found.row.method, found.reference.method) == ("LoRA", "RED")
    expected = {seed: 100 * (theirs[seed] - ours[seed]) for seed in ours}
    assert found.paired.by_seed == pytest.approx(expected)  # seed 45 has no partner
    interval = ttest_rel([theirs[seed] * 100 for seed in ours], [score * 100 for score in ours.values()])
    assert found.paired.interval == pytest.approx(tuple(interval.confidence_interval(0.95)))
    shutil.rmtree(tmp_path / "red" / "44")
    (found,) = differences_to_reference(compare_runs([tmp_path]))
    assert (list(found.paired.by_seed), found.paired.interval) == ([42, 43], None)


def test_untuned_scores_are_a_row_where_runs_record_them(tmp_path: Path) -> None:
    before = {"split": "validation", "examples": 100, "accuracy": 0.5}
    finished_run(tmp_path / "a", seed=42, untuned=before)
    finished_run(tmp_path / "b", seed=43)
    assert [row.title for row in compare_runs([tmp_path]).rows] == ["RED"]  # not of one seed alone
    finished_run(tmp_path / "c", "glue_rte", seed=42, untuned={**before, "split": "test"})
    finished_run(tmp_path / "e", "glue_qnli", seed=42, untuned={**before, "examples": 20})  # of 100 rows
    finished_run(tmp_path / "d", "glue_mrpc", seed=42, untuned=before)
    comparison = compare_runs([tmp_path])
    assert [row.title for row in comparison.rows] == ["RED", "untuned"]
    untuned = comparison.rows[1]
    assert {column.title: group.mean for column, group in untuned.cells.items()} == {"MRPC": 50.0}
    assert (untuned.parameters, untuned.paper) == ((0, 0), {})


@needs_extra("plot")
def test_scores_by_parameters(tmp_path: Path) -> None:
    comparison = compare_runs([methods_and_seeds(tmp_path / "runs")])
    assert has_scores_by_parameters(comparison)
    svg = draw_score_by_parameters(comparison).svg
    for name in ("RED", "LoRA", "full fine-tuning", "linear probe", "untuned", "100K", "100M"):
        assert f">{name}</text>" in svg
    finished_run(tmp_path / "alone" / "run")
    assert not has_scores_by_parameters(compare_runs([tmp_path / "alone"]))
