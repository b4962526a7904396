"""An entry in one file and a function in another add a metric, as CONTRIBUTING.md says."""

from __future__ import annotations

from pathlib import Path

from tests.conftest import write_recipe
from tests.copied_package import CopiedPackage

OF_LABELS = """
def _error(counts: NDArray[np.int64]) -> float:
    return float(1 - counts.trace() / counts.sum())


# name -> function of a confusion matrix"""
OF_TEXTS = """
def _words(names, predictions, references, working):
    return {"words": sum(len(text.split()) for text in predictions) / len(predictions)}


METRICS: dict[str, MetricFacts] = {
    "words": MetricFacts(_words),"""


def test_a_metric_is_two_files(tmp_path: Path, base: Path, data: Path) -> None:
    package = CopiedPackage(tmp_path)
    package.change(
        "recipe/metrics.py",
        ('"macro_f1"]', '"macro_f1", "error"]'),
        ('"rougeL"]', '"rougeL", "words"]'),
        ("_SPECS = {", '_SPECS = {"error": MetricSpec("share of errors", lower_is_better=True),\n'),
        ('    "NIST":', '    "words": MetricSpec(format=".1f"),\n    "NIST":'),
    )
    package.change(
        "tasks/labels/metrics.py",
        ("\n# name -> function of a confusion matrix", OF_LABELS),
        ('    "accuracy": _accuracy,', '    "accuracy": _accuracy,\n    "error": _error,'),
    )
    package.change("tasks/text_metrics/score.py", ("\nMETRICS: dict[str, MetricFacts] = {", OF_TEXTS))
    recipe, texts = write_recipe(tmp_path, base, data), tmp_path / "texts"
    texts.write_text("two words\n")
    helped, scored, trained, reported = package.red(
        ["score", "--help"],
        ["score", "-p", texts, "-r", texts, "--metrics", "words", "--json"],
        ["train", recipe, "eval.metric=error", "--json"],
        ["report", tmp_path / "run", "-o", tmp_path / "report"],
    )
    assert "rougeL words." in helped.out
    assert scored.json["scores"] == {"words": 2.0}
    scores = trained.json["splits"]["validation"]
    assert scores["error"] == trained.json["best"]["value"]
    assert abs(scores["error"] + scores["accuracy"] - 1) < 1e-9
    assert trained.json["best"]["value"] < 0.5
    assert reported.code == 0, reported.err
