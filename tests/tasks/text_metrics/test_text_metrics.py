"""Metrics of generated text against figures computed by hand, and the files of texts."""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path

import pytest

from red_cli.tasks.text_metrics.mteval import bleu, mteval_words
from red_cli.tasks.text_metrics.score import METRICS, metric_names, require_packages, score_texts
from red_cli.tasks.text_metrics.text_files import read_texts
from tests.extras import needs_extra
from tests.failures import assert_failed, fails

# text -> the words that mteval-v13a cuts it into, by reading its rules
WORDS = {
    "The Pub, near Café ROUGE.": "the pub , near café rouge .",
    "É stays, ASCII falls": "É stays , ascii falls",
    "it's a co-op": "it's a co-op",
    "£20-25 (cheap)": "£20 - 25 ( cheap )",
    "1,000 or 2.5 or .5 or 3.": "1,000 or 2.5 or . 5 or 3 .",
    "5-star": "5 - star",
    "&quot;A&amp;B&quot; &amp;lt; &AMP; &apos;": '" a & b " < & amp ; & apos ;',
    "a<skipped>b": "ab",
    "tab\there  two\u00a0three": "tab here two three",
    "one\x1fword": "one\ufffdword",
    "e.g. U.S.": "e . g . u . s .",
    "": "",
}

# predictions, references of each -> BLEU
BLEU_CASES = {
    "clipped": (["the cat sat on the mat"], [["The cat sat on a mat"]], (5 / 6 * 3 / 5 * 2 / 4 * 1 / 3) ** 0.25),
    "smoothed": (["a b c"], [["a x c"]], (2 / 3 * 1 / 4 * 1 / 4 * 1) ** 0.25),
    "nothing matches": (["x y"], [["a b"]], (1 / 4 * 1 / 4 * 1 * 1) ** 0.25),
    "shorter than the closest": (["a b c d"], [["a b c d e f g", "a b c d e"]], math.exp(1 - 5 / 4)),
    "of two equally close the shorter": (["a b c d"], [["a b c d e", "a b c"]], 1.0),
    "as many as in one reference": (["a a a a"], [["a a b", "b a"]], (2 / 4 * 1 / 3 * 1 / 4 * 1 / 4) ** 0.25),
    "summed over inputs": (["a b c d", ""], [["a b c d"], ["e"]], math.exp(1 - 5 / 4)),
    "empty": ([""], [["a"]], 0.0),
}

HALF = math.log(0.5) / math.log(2 / 3)

# predictions, references of each -> NIST
NIST_CASES = {
    "one input": (["a b"], [["a b c a"]], ((1 + 2) / 2 + 1) * 0.5 ** (HALF**2)),
    "two thirds as long": (["a b"], [["a b c"]], (math.log2(3) + 0) * 0.5),
    "longer is not punished": (["a b c d e"], [["a b"]], (2 * 1 / 5 + 0)),
    "length over the largest number of references": (["a", "b"], [["a", "a"], ["b c"]], ((1 + 2) / 2)),
    "a first word 0 is none": (["0 x"], [["0 x 0 y"]], ((1 + 2) / 2 + 2) * 0.5 ** (HALF**2)),
    "empty": ([""], [["a"]], 0.0),
}


@pytest.mark.parametrize(("text", "words"), WORDS.items())
def test_words(text: str, words: str) -> None:
    assert mteval_words(text) == words.split()


@needs_extra("nlg")
@pytest.mark.parametrize(("predictions", "references", "value"), BLEU_CASES.values(), ids=BLEU_CASES.keys())
def test_bleu(predictions: list[str], references: list[list[str]], value: float) -> None:
    assert score_texts(predictions, references, ["BLEU"]) == {"BLEU": pytest.approx(value, abs=1e-12)}


@pytest.mark.parametrize(("predictions", "references", "value"), NIST_CASES.values(), ids=NIST_CASES.keys())
def test_nist(predictions: list[str], references: list[list[str]], value: float) -> None:
    assert score_texts(predictions, references, ["NIST"]) == {"NIST": pytest.approx(value, abs=1e-12)}


@needs_extra("nlg")
def test_bleu_is_sacrebleus_on_ordinary_text() -> None:
    import sacrebleu

    predictions = ["The Mill is a cheap pub, near the river.", "Zizzi has a 5-star rating & costs £20-25."]
    references = [
        ["The Mill is a pub near the river.", "There is a cheap pub, The Mill, near the river."],
        ["Zizzi is rated 5 stars & costs £20-25.", "A 5-star place for £20-25 is Zizzi."],
    ]
    official = sacrebleu.corpus_bleu(predictions, list(zip(*references, strict=True)), lowercase=True).score / 100
    assert score_texts(predictions, references, ["BLEU"])["BLEU"] == pytest.approx(official, abs=1e-12)


@needs_extra("nlg")
def test_an_empty_reference_beside_others_does_not_count() -> None:
    assert bleu([["a"]], [[["a", "b"], []]]) == bleu([["a"]], [[["a", "b"]]]) == pytest.approx(math.exp(-1))


@needs_extra("nlg")
def test_chrf_and_rouge() -> None:
    scores = score_texts(["the cat"], [["a dog", "the cat sat"]], ["chrF", "rouge1", "rouge2", "rougeL"])
    assert scores["rouge1"] == pytest.approx(0.8)
    assert scores["rouge2"] == pytest.approx(2 / 3)
    assert scores["rougeL"] == pytest.approx(0.8)
    # one of two letters, no pair of letters; longer ones there are none
    assert score_texts(["ab"], [["ac"]], ["chrF"]) == {"chrF": pytest.approx(0.25)}
    assert score_texts(["ab cd", "x"], [["ab cd"], ["y", "x"]], ["chrF"]) == {"chrF": pytest.approx(1.0)}


@needs_extra("nlg")
def test_a_line_break_is_a_space_to_every_metric() -> None:
    names = ["BLEU", "NIST", "chrF", "rouge2"]
    assert score_texts(["a\nb c\u2028d "], [["a b c d"]], names) == score_texts(["a b c d"], [["a b c d"]], names)


@needs_extra("nlg")
@pytest.mark.parametrize("folder", ["gpt2_medium_e2e_red", "gpt2_medium_e2e_redpp"])
def test_published_predictions(folder: str, shared: Path) -> None:
    published = shared / "published"
    files = published / folder / "pred.txt", published / "gpt2_medium_e2e_red" / "label.txt"
    expected = {"gpt2_medium_e2e_red": (0.6500, 8.3934), "gpt2_medium_e2e_redpp": (0.6668, 8.5335)}[folder]
    scores = score_texts(*read_texts(*files), ["BLEU", "NIST"])
    assert tuple(round(value or 0, 4) for value in scores.values()) == expected


# name -> (bytes of the predictions, bytes of the references, what is read)
LAYOUTS = {
    "official": (b"p\nq\n", b"a\nb\n\nc\n\n", (["p", "q"], [["a", "b"], ["c"]])),
    "without ends": (b"p\nq", b"a\n\nc", (["p", "q"], [["a"], ["c"]])),
    "Windows": (b"p\r\nq\r\n", b"a\r\nb\r\n\r\nc\r\n", (["p", "q"], [["a", "b"], ["c"]])),
    "byte order mark": (b"\xef\xbb\xbfp\nq\n", b"\xef\xbb\xbfa\n\nc\n", (["p", "q"], [["a"], ["c"]])),
    "one reference each": (b"p\nq\n", b"a\nb\n", (["p", "q"], [["a"], ["b"]])),
    "one input": (b"p\n", b"a\n", (["p"], [["a"]])),
    "an empty prediction": (b"p\n\nq\n", b"a\n\nb\n\nc\n", (["p", "", "q"], [["a"], ["b"], ["c"]])),
    "an empty prediction at the end": (b"p\n\n", b"a\n\nb\n", (["p", ""], [["a"], ["b"]])),
    "blank lines at the ends": (b"p\nq\n\n \n", b"a\n\nb\n\n\n\t\n", (["p", "q"], [["a"], ["b"]])),
    "a reference twice": (b"p\nq\n", b"a\na\n\nb\n", (["p", "q"], [["a", "a"], ["b"]])),
    "spaces around": (b"  p\t\nq  r\n", b" a \n\nb\tc\n", (["p", "q  r"], [["a"], ["b\tc"]])),
}

# name -> (predictions, references, code, fact of the message)
FILE_FAULTS = {
    "fewer predictions": (
        b"p\n", b"a\nb\n\nc\n", "rows-mismatch", "1 predicted, 2 with references; references from line 4",
    ),
    "fewer references": (
        b"p\nq\nr\n", b"a\n\nb\n", "rows-mismatch", "3 predicted, 2 with references; predictions from line 3",
    ),
    "one prediction, one group": (b"p\n", b"a\nb\n", "rows-mismatch", "1 predicted, 2 with references"),
    "no predictions": (b"", b"a\n", "no-rows", "predictions.txt"),
    "no references": (b"p\n", b"", "no-rows", "references.txt"),
    "blank references": (b"p\n", b"\n \n", "no-rows", "references.txt"),
    "an input without references": (b"p\nq\nr\n", b"a\n\n\nb\n", "invalid-row", "references.txt, line 3"),
    "a blank line at the start": (b"p\n", b"\na\n", "invalid-row", "references.txt, line 1"),
    "not UTF-8": (b"p\nq\xff\n", b"a\nb\n", "unsupported-file", "predictions.txt, line 2"),
    "a hidden line break": ("p\nq\u2028r\n".encode(), b"a\n\nb\n", "rows-mismatch", "line 2 holds U+2028"),
}  # fmt: skip


def write_files(folder: Path, predictions: bytes, references: bytes) -> tuple[Path, Path]:
    files = folder / "predictions.txt", folder / "references.txt"
    for path, content in zip(files, (predictions, references), strict=True):
        path.write_bytes(content)
    return files


@pytest.mark.parametrize(("predictions", "references", "expected"), LAYOUTS.values(), ids=LAYOUTS.keys())
def test_layouts(tmp_path: Path, predictions: bytes, references: bytes, expected: tuple) -> None:
    assert read_texts(*write_files(tmp_path, predictions, references)) == expected


@pytest.mark.parametrize(("predictions", "references", "code", "fact"), FILE_FAULTS.values(), ids=FILE_FAULTS.keys())
def test_faults_of_files(red, tmp_path: Path, predictions: bytes, references: bytes, code: str, fact: str) -> None:
    files = write_files(tmp_path, predictions, references)
    outcome = red("score", "--predictions", files[0], "--references", files[1], "--json")
    assert_failed(outcome, code, fact)
    assert len(outcome.err.splitlines()) <= 2


# name -> (further arguments, code, fact of the message)
ARGUMENT_FAULTS = {
    "no such file": (["--predictions", "/no/file"], "file-not-found", "/no/file"),
    "a folder": (["--references", "/"], "unsupported-file", "folder"),
    "no such metric": (["--metrics", "BLEU,meteorr"], "unknown-name", "METEOR?"),
    "no metric": (["--metrics", ""], "unknown-name", "an empty name"),
}


@pytest.mark.parametrize(("arguments", "code", "fact"), ARGUMENT_FAULTS.values(), ids=ARGUMENT_FAULTS.keys())
def test_faults_of_arguments(red, tmp_path: Path, arguments: list[str], code: str, fact: str) -> None:
    files = write_files(tmp_path, b"p\n", b"a\n")
    outcome = red("score", "--predictions", files[0], "--references", files[1], *arguments, "--json")
    assert_failed(outcome, code, fact)


@needs_extra("nlg")
def test_the_command_gives_a_table_or_json(red, tmp_path: Path) -> None:
    files = write_files(tmp_path, b"a b c d\nx\n", b"a b c d\nb\n\nx\n")
    arguments = ["score", "--predictions", files[0], "--references", files[1], "--metrics", "nist, BLEU,chrf"]
    result = red(*arguments, "--json").json
    assert (result["inputs"], result["reference_texts"], result["not_computed"]) == (2, 3, {})
    assert list(result["scores"]) == ["NIST", "BLEU", "chrF"]
    assert result["scores"]["BLEU"] == pytest.approx(1.0)
    table = dict(line.split(maxsplit=1) for line in red(*arguments).out.splitlines())
    assert {name: float(table[name]) for name in result["scores"]} == {
        name: round(value, 4) for name, value in result["scores"].items()
    }


def test_names_are_known_in_any_case_and_once() -> None:
    assert metric_names(["rouge_l", "rougel", "Cider", "CIDEr"]) == ["ROUGE_L", "rougeL", "CIDEr"]
    assert metric_names(METRICS) == list(METRICS)


def test_texts_that_do_not_match() -> None:
    faults = {"no-rows": ([], []), "rows-mismatch": (["a"], []), "invalid-row": (["a"], [[" "]])}
    for code, (predictions, references) in [*faults.items(), ("invalid-row", (["a"], [[]]))]:
        with fails(code):
            score_texts(predictions, references, ["NIST"])


@pytest.mark.parametrize("name", sorted(set(METRICS) - {"NIST"}))
def test_a_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda package: None)
    with fails("missing-dependency", name, "red-finetune[nlg]"):
        require_packages(["NIST", name])
