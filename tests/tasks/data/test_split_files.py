"""Which files are which split, and what is said about paths that are none."""

from __future__ import annotations

import json
from pathlib import Path

import datasets
import pytest

from red_cli.recipe.sections import Data
from red_cli.tasks.data.file_rows import read_file_rows
from red_cli.tasks.data.split_files import require_file, split_files
from tests.failures import fails


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of split files, one with others, and one with a folder of data in it."""
    for name in ("good/train.csv.gz", "good/dev.JSONL", "good/test.xlsx", "good/notes.txt.gz",
                 "shards/train-00000-of-00002.jsonl.gz", "shards/train-00001-of-00002.jsonl.gz",
                 "others/reviews 1.csv", "others/reviews 2.csv", "outer/data/train.csv", "empty/a.md"):  # fmt: skip
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("text\na\n")
    return tmp_path


def test_split_files_of_a_folder(folder: Path) -> None:
    files = split_files(Data(path=str(folder / "good")))
    assert files is not None
    assert {split: [path.name for path in paths] for split, paths in files.items()} == {
        "train": ["train.csv.gz"], "validation": ["dev.JSONL"], "test": ["test.xlsx"],
    }  # fmt: skip
    shards = split_files(Data(path=str(folder / "shards")))
    assert shards is not None
    assert [path.name for path in shards["train"]] == [
        "train-00000-of-00002.jsonl.gz", "train-00001-of-00002.jsonl.gz",
    ]  # fmt: skip


def test_folders_that_datasets_saved(tmp_path: Path) -> None:
    rows = datasets.Dataset.from_dict({"text": ["a", "b", "c"], "label": [0, 1, 0]})
    rows.save_to_disk(tmp_path / "one", num_shards=2)
    datasets.DatasetDict({"train": rows, "dev": rows}).save_to_disk(tmp_path / "several")
    for name, splits in {"one": ["train"], "several": ["train", "validation"]}.items():
        files = split_files(Data(path=str(tmp_path / name)))
        assert files is not None
        assert list(files) == splits
        for paths in files.values():
            assert read_file_rows(paths).column("text") == ["a", "b", "c"]
    for file, listed in {"one/state.json": {"_data_files": [{"filename": "../x.arrow"}]},
                         "several/dataset_dict.json": {"splits": [".."]}}.items():  # fmt: skip
        (tmp_path / file).write_text(json.dumps(listed))
        with fails("file-damaged", file):
            split_files(Data(path=str(tmp_path / file.split("/")[0])))


def test_a_name_on_the_hub_is_no_local_path() -> None:
    assert split_files(Data(path="somebody/talks")) is None
    assert split_files(Data(path="somebody/talks.v1")) is None


# what is named -> code, facts
FAULTS: dict[str, tuple[dict[str, str], str, tuple[str, ...]]] = {
    "a URL": ({"path": "https://example.org/train.csv"}, "file-not-found", ("data.path is a URL", "Download")),
    "the Hub's page": ({"path": "https://huggingface.co/datasets/a/b"}, "file-not-found", ("data.path=a/b",)),
    "the Hub's file system": ({"path": "hf://datasets/a/b"}, "file-not-found", ("data.path=a/b",)),
    "a URL for a split": ({"train": "s3://bucket/train.csv"}, "file-not-found", ("data.train is a URL",)),
    "a folder for a split": ({"train": "{}/good"}, "file-not-found", ("data.train is a folder", "data.path={}/good")),
    "no such file": ({"train": "{}/nowhere.csv"}, "file-not-found", ("data.train", "{}/nowhere.csv")),
    "no such folder": ({"path": "{}/nowhere"}, "file-not-found", ("{}/nowhere",)),
    "no such file in a folder": ({"path": "good/trian.csv"}, "file-not-found", ("good/trian.csv",)),
    "no such folder in a folder": ({"path": "good/nowhere"}, "file-not-found", ("good/nowhere",)),
    "a file as a folder": ({"path": "{}/good/dev.JSONL/train"}, "file-not-found", ("dev.JSONL is a file",)),
    "files of other names": ({"path": "{}/others"}, "split-not-found", ("data.train={}/others/reviews 1.csv",)),
    "the folder around": ({"path": "{}/outer"}, "split-not-found", ("data.path={}/outer/data?",)),
    "no data": ({"path": "{}/empty"}, "split-not-found", (".parquet",)),
}


@pytest.mark.parametrize(("named", "code", "facts"), FAULTS.values(), ids=FAULTS.keys())
def test_what_is_not_there_is_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch, named: dict[str, str], code: str, facts: tuple[str, ...]
) -> None:
    monkeypatch.chdir(folder)
    with fails(code, *(fact.replace("{}", str(folder)) for fact in facts)):
        data = Data(**{key: value.replace("{}", str(folder)) for key, value in named.items()})
        for split in split_files(data) or ():
            require_file(data, split)
