"""The paper's division of GLUE draws the rows of the published code, the same in every command."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from red_cli.recipe.schema import Data
from red_cli.recipe.tasks.glue import GLUE
from red_cli.tasks.data.paper_cut import SCORED, SELECTION, PaperCut, paper_order
from red_cli.tasks.labels.task import LabelTask
from red_cli.tasks.presets.glue import glue_task, with_paper_cut
from tests.failures import assert_failed, fails
from tests.tiny import make_base, read_lines, sentences

# Rows of the official training and (matched) validation sets.
OFFICIAL = {"cola": (8551, 1043), "sst2": (67349, 872), "mrpc": (3668, 408), "stsb": (5749, 1500),
            "qqp": (363846, 40430), "mnli": (392702, 9815), "qnli": (104743, 5463), "rte": (2490, 277)}  # fmt: skip

# Task, whether the model is an encoder-decoder, and for seed 42: rows that train, choose and are scored; the first
# four drawn of those that choose and of those that are scored; the sums of all their places. Worked out with numpy
# alone after the published code's rules. The sizes are the paper's Table 9, with RTE's and MNLI's set right.
DRAWN = [
    ("cola", False, (8551, 522, 521), [412, 74, 937, 500], [1035, 280, 535, 822], 280888, 262515),
    ("cola", True, (8551, 521, 522), [1035, 280, 535, 822], [412, 74, 937, 500], 262515, 280888),
    ("sst2", False, (67349, 436, 436), [794, 319, 382, 779], [447, 759, 395, 519], 183510, 196246),
    ("sst2", True, (66349, 1000, 872), [66730, 29890, 45801, 29352], [0, 1, 2, 3], 33376357, 379756),
    ("mrpc", False, (3668, 204, 204), [70, 218, 258, 33], [368, 291, 287, 129], 40149, 42879),
    ("mrpc", True, (3668, 204, 204), [70, 218, 258, 33], [368, 291, 287, 129], 40149, 42879),
    ("stsb", False, (5749, 750, 750), [1116, 1368, 422, 413], [1359, 302, 1262, 1223], 559436, 564814),
    ("stsb", True, (5749, 750, 750), [1116, 1368, 422, 413], [1359, 302, 1262, 1223], 559436, 564814),
    ("qqp", False, (363846, 1000, 39430), [27957, 39753, 24983, 13985], [16818, 9708, 11567, 729], 20086590, 797185645),
    ("qqp", True, (362846, 1000, 40430), [215130, 234600, 118406, 284746], [0, 1, 2, 3], 182761275, 817272235),
    ("mnli", False, (392702, 1000, 8815), [3344, 3852, 5009, 5398], [2018, 333, 7075, 1472], 4930332, 43231873),
    ("mnli", True, (391702, 1000, 9815), [155219, 327538, 325456, 341461], [0, 1, 2, 3], 194190303, 48162205),
    ("qnli", False, (104743, 1000, 4463), [5061, 1084, 655, 2153], [322, 3130, 4803, 5132], 2689705, 12229748),
    ("qnli", True, (103743, 1000, 5463), [64724, 38119, 41924, 42888], [0, 1, 2, 3], 51171291, 14919453),
    ("rte", False, (2490, 138, 139), [30, 126, 220, 142], [51, 95, 217, 186], 18928, 19298),
    ("rte", True, (2490, 138, 139), [30, 126, 220, 142], [51, 95, 217, 186], 18928, 19298),
]


def paper_task(subset: str, folder: Path, encoder_decoder: bool = False) -> LabelTask:
    return with_paper_cut(glue_task(subset, Data(path=str(folder)), None), subset, encoder_decoder)


def write(folder: Path, **rows: int) -> Path:
    """Files of so many rows; column `place` has each row's index."""
    folder.mkdir(parents=True, exist_ok=True)
    for split, count in rows.items():
        pyarrow.parquet.write_table(pa.table({"place": np.arange(count)}), folder / f"{split}.parquet")
    return folder


@pytest.fixture(scope="module")
def official(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("glue")
    for subset, (train, validation) in OFFICIAL.items():
        write(folder / subset, **{"train": train, GLUE[subset].validation_splits[0]: validation})
    return folder


@pytest.mark.parametrize(
    ("subset", "encoder_decoder", "sizes", "chosen", "scored", "chosen_sum", "scored_sum"), DRAWN
)  # fmt: skip
def test_the_rows_are_the_published_codes(
    official: Path, subset: str, encoder_decoder: bool, sizes: tuple[int, int, int], chosen: list[int],
    scored: list[int], chosen_sum: int, scored_sum: int,
) -> None:  # fmt: skip
    task = paper_task(subset, official / subset, encoder_decoder)
    assert task.validation_splits == (SELECTION, SCORED)
    splits = task.load(42, ("train", SELECTION, SCORED)).rows
    assert tuple(splits[name].table.num_rows for name in ("train", SELECTION, SCORED)) == sizes
    for name, first, total in ((SELECTION, chosen, chosen_sum), (SCORED, scored, scored_sum)):
        places = np.array(splits[name].column("place"))
        assert np.isin(first, places).all()
        assert places.sum() == total
        assert (np.diff(places) > 0).all()  # in the file's order, each row once
        if splits[name].source_indices is None:
            assert splits[name].selection == f"all of {task.paper_cut.source(name)}"
        else:
            assert (splits[name].source_indices == places).all()
            rule, _, source = splits[name].selection.partition(" of ")
            assert source == task.paper_cut.source(name)
            drawn = eval(rule, {"numpy": np})
            assert drawn[:4].tolist() == first
            assert sorted(drawn.tolist()) == places.tolist()
    together = sum(splits[name].table.num_rows for name in ("train", SELECTION, SCORED))
    assert together == sum(OFFICIAL[subset])


def test_each_seed_has_its_own_cut(official: Path) -> None:
    drawn = {
        seed: paper_task("rte", official / "rte").load(seed, (SCORED,)).rows[SCORED].column("place")
        for seed in (42, 43)
    }
    assert drawn[42] != drawn[43]
    assert paper_order(277, 43)[:4].tolist() == [147, 141, 134, 273]


@pytest.mark.parametrize(("rows", "sizes"), [(4, (2, 2)), (5, (2, 3)), (2000, (1000, 1000)), (2001, (1000, 1001))])
def test_halves_up_to_2000_rows(tmp_path: Path, rows: int, sizes: tuple[int, int]) -> None:
    splits = paper_task("rte", write(tmp_path, train=10, validation=rows)).load(42, (SELECTION, SCORED)).rows
    assert tuple(splits[name].table.num_rows for name in (SELECTION, SCORED)) == sizes


@pytest.mark.parametrize(
    ("encoder_decoder", "rows", "code", "fact"),
    [(False, {"validation": 3}, "too-few-rows", "validation.parquet: 3 rows"),
     (False, {"validation": 1}, "too-few-rows", "validation.parquet: 1 row,"),
     (True, {"validation": 50, "train": 1001}, "too-few-rows", "train.parquet: 1,001 rows, too few to take 1,000"),
     (False, {"train": 50}, "split-not-found", "no validation split; available: train")],
)  # fmt: skip
def test_too_small_to_cut(tmp_path: Path, encoder_decoder: bool, rows: dict[str, int], code: str, fact: str) -> None:
    with fails(code, fact, "eval.split=standard"):
        paper_task("sst2", write(tmp_path, **rows), encoder_decoder).load(42, (SELECTION, SCORED))


def test_an_error_names_the_row_in_the_file() -> None:
    from red_cli.tasks.data.rows import Rows
    from red_cli.tasks.labels.targets import LabelTarget

    rows = Rows(pa.table({"label": ["no", "yes", "no", "maybe"]}), "validation.csv").take([1, 3])
    with fails("invalid-label", "validation.csv, row 4: label 'maybe'"):
        LabelTarget(["no", "yes"], given=True).encode(rows, "label")
    assert rows.take([1]).number(0) == 4


@pytest.mark.parametrize(
    ("subset", "sizes"),
    [("cola", (8551, 522, 521)), ("rte", (2490, 138, 139)), ("mrpc", (3668, 204, 204)), ("sst2", (6920, 436, 436))],
)
def test_real_files(shared: Path, subset: str, sizes: tuple[int, int, int]) -> None:
    splits = paper_task(subset, shared / "data" / "glue" / subset).load(42, ("train", SELECTION, SCORED)).rows
    assert tuple(splits[name].table.num_rows for name in ("train", SELECTION, SCORED)) == sizes


@pytest.fixture
def cola(tmp_path: Path) -> Path:
    """Files in CoLA's layout, with a labelled test split."""
    folder = tmp_path / "cola"
    folder.mkdir()
    for seed, (split, count) in enumerate({"train": 64, "validation": 41, "test": 12}.items()):
        rows = [{"sentence": row["text"], "label": int(row["label"] == "positive")} for row in sentences(count, seed)]
        (folder / f"{split}.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    return folder


def options(base: Path, data: Path, run: Path, split: str) -> list[str]:
    return [f"model.name_or_path={base}", f"data.path={data}", f"output.dir={run}", f"eval.split={split}",
            "train.num_train_epochs=2", "train.micro_batch_size=16", "data.max_length=32", "train.seed=43"]  # fmt: skip


def test_every_command_has_the_same_rows(red, base: Path, cola: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    arguments = options(base, cola, run, "paper")
    order = np.random.RandomState(43).permutation(41)
    scored, chosen = sorted(order[:20].tolist()), sorted(order[20:].tolist())  # CoLA's halves are swapped

    plan = red("check", "glue_cola", *arguments, "--json").json["plan"]
    trained = red("train", "glue_cola", *arguments, "--json").json
    assert trained["scoring"] == plan["scoring"]
    assert trained["scoring"] == {
        "split": "paper",
        "selection": {"split": SELECTION, "examples": 21,
                      "rows": "numpy.random.RandomState(43).permutation(41)[20:] of validation"},
        "scored": {"split": SCORED, "examples": 20,
                   "rows": "numpy.random.RandomState(43).permutation(41)[:20] of validation"},
    }  # fmt: skip
    assert list(trained["splits"]) == [SCORED, SELECTION]
    assert trained["best"]["value"] == trained["splits"][SELECTION]["matthews_correlation"]
    assert json.loads((run / "metrics.json").read_text())["scoring"] == trained["scoring"]
    for split, places in ((SELECTION, chosen), (SCORED, scored)):
        before = read_lines(run / "predictions" / f"{split}.jsonl")
        assert [line["index"] for line in before] == places
        result = red("eval", run, "--split", split, "--json").json
        assert result["scores"] == {name: trained["splits"][split][name] for name in result["scores"]}
        assert result["chose_best"] == ("all" if split == SELECTION else "none")
        assert [line["prediction"] for line in read_lines(run / "predictions" / f"{split}.jsonl")] == [
            line["prediction"] for line in before
        ]
    assert red("eval", run, "--json").json["split"] == SCORED
    assert red("eval", run, "--split", "validation", "--json").json["chose_best"] == "some"
    assert red("eval", run, "--split", "test", "--json").json["chose_best"] == "none"
    assert red("eval", run, "eval.split=standard", "--json").json["chose_best"] is None
    assert red("export", run, "-o", tmp_path / "merged").code == 0
    assert red("eval", tmp_path / "merged", "--json").json["scores"] == result["scores"]
    assert "permutation(41)[:20] of validation" in (run / "README.md").read_text()


def test_standard_says_that_the_scored_rows_chose(red, base: Path, cola: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    outcome = red("train", "glue_cola", *options(base, cola, run, "standard"))
    assert "validation, 41 rows, which chose the best step" in outcome.out
    scoring = json.loads((run / "metrics.json").read_text())["scoring"]
    assert scoring["selection"] == scoring["scored"] == {
        "split": "validation", "examples": 41, "rows": "all of validation"
    }  # fmt: skip
    assert red("eval", run, "--json").json["split"] == "test"  # labelled, and untouched by training
    assert red("eval", run, "--split", "validation", "--json").json["chose_best"] == "all"


def test_another_cut_is_another_run(red, base: Path, cola: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert red("train", "glue_cola", *options(base, cola, run, "paper")).code == 0
    metrics = run / "metrics.json"
    metrics.unlink()  # as if it had been stopped
    outcome = red("train", "glue_cola", *options(base, cola, run, "standard"), "--resume", "--json")
    assert_failed(outcome, "different-recipe", "eval.split: paper -> standard")


def test_encoder_decoders_choose_by_training_rows(red, tmp_path: Path) -> None:
    """An encoder-decoder follows the published T5 code's rule for large data sets."""
    base = make_base(tmp_path / "base", "t5")
    folder = tmp_path / "sst2"
    folder.mkdir()
    for split, count in {"train": 1040, "validation": 8}.items():
        rows = [{"sentence": row["text"], "label": int(row["label"] == "positive")} for row in sentences(count, 0)]
        (folder / f"{split}.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    plan = red("check", "glue_sst2", *options(base, folder, tmp_path / "run", "paper"), "--json").json["plan"]
    assert {split: lengths["rows"] for split, lengths in plan["lengths"].items()} == {
        "train": 40, SELECTION: 1000, SCORED: 8
    }  # fmt: skip
    assert plan["scoring"]["scored"]["rows"] == "all of validation"


def test_cut_of_a_split_that_was_not_asked_for() -> None:
    assert PaperCut("validation").source("test") == "test"
    assert PaperCut("validation", from_training=True).source(SELECTION) == "train"
