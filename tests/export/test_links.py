"""Links in a base or a checkpoint that lead out of its folder are not followed; those of the Hub's cache are."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from red_cli.files import leads_outside
from tests.export.test_export import COMMIT, prepare

SECRET = '{"secret": "of this machine"}'


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    file = tmp_path / "home" / "secret"
    file.parent.mkdir()
    file.write_text(SECRET)
    return file


@pytest.mark.parametrize("name", ["LICENSE", "NOTICE.txt", "vocab.txt", "x.jinja", "merges.txt", "added_tokens.json"])
def test_what_is_copied_is_the_bases_own(red: Callable, tmp_path: Path, secret: Path, name: str) -> None:
    prepare(tmp_path)
    base = tmp_path / "base"
    (base / name).symlink_to(secret)
    (base / "USE_POLICY").write_text("mine")
    (base / "NOTICE").symlink_to("USE_POLICY")
    outcome = red("export", tmp_path / "adapter", "-o", tmp_path / "out", "--no-verify")
    assert outcome.code == 0, outcome.err
    assert str(base / name) in outcome.err
    assert [
        path for path in (tmp_path / "out").rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()
    ] == []
    assert (tmp_path / "out" / "NOTICE").read_text() == "mine"
    assert not (tmp_path / "out" / "NOTICE").is_symlink()


def test_a_folder_of_templates_elsewhere(red: Callable, tmp_path: Path, secret: Path) -> None:
    prepare(tmp_path)
    secret.rename(secret.with_suffix(".jinja"))
    (tmp_path / "base" / "additional_chat_templates").symlink_to(secret.parent)
    (tmp_path / "base" / "LICENSES").mkdir()  # a folder is no licence, and nothing to fail at
    (tmp_path / "base" / "LICENSE").symlink_to("LICENSE")
    outcome = red("export", tmp_path / "adapter", "-o", tmp_path / "out", "--no-verify")
    assert outcome.code == 0, outcome.err
    assert str(tmp_path / "base" / "additional_chat_templates") in outcome.err
    assert not (tmp_path / "out" / "additional_chat_templates").exists()


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "model.safetensors.index.json"])
def test_weights_elsewhere_are_refused(red: Callable, tmp_path: Path, name: str) -> None:
    prepare(tmp_path, shard="20KB" if "index" in name else "50GB")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / "base" / name).rename(elsewhere / name)
    (tmp_path / "base" / name).symlink_to(elsewhere / name)
    outcome = red("export", tmp_path / "adapter", "-o", tmp_path / "out", "--no-verify", "--json")
    assert (outcome.code, outcome.json["error"]["code"]) == (2, "path-outside-folder")
    assert str(tmp_path / "base" / name) in outcome.err
    assert not (tmp_path / "out").exists()


def as_cached(base: Path, cache: Path) -> Path:
    """A base as the Hub's cache keeps it: a snapshot of links into the folder of blobs."""
    blobs, snapshot = cache / "models--a--b" / "blobs", cache / "models--a--b" / "snapshots" / COMMIT
    blobs.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    for number, file in enumerate(sorted(base.iterdir())):
        shutil.copy(file, blobs / f"{number:040}")
        (snapshot / file.name).symlink_to(Path("..") / ".." / "blobs" / f"{number:040}")
    return snapshot


def test_the_caches_links_are_followed(red: Callable, tmp_path: Path, secret: Path) -> None:
    prepare(tmp_path)
    snapshot = as_cached(tmp_path / "base", tmp_path / "cache")
    (tmp_path / "short").symlink_to(snapshot)
    for number, folder in enumerate((snapshot, tmp_path / "short")):
        output = tmp_path / f"out{number}"
        outcome = red("export", tmp_path / "adapter", "-o", output, "--no-verify", "--base", folder)
        assert outcome.code == 0, outcome.err
        assert outcome.err == ""
        assert (output / "chat_template.jinja").is_file()
    (tmp_path / "cache" / "models--a--b" / "blobs" / "x").symlink_to(secret)
    (snapshot / "LICENSE").symlink_to("../../blobs/x")
    assert leads_outside(snapshot, snapshot / "LICENSE")


def test_a_folder_of_blobs_that_is_a_link(tmp_path: Path, secret: Path) -> None:
    repository = tmp_path / "models--a--b"
    (repository / "snapshots" / COMMIT).mkdir(parents=True)
    (repository / "blobs").symlink_to(secret.parent)
    link = repository / "snapshots" / COMMIT / "LICENSE"
    link.symlink_to(f"../../blobs/{secret.name}")
    assert link.read_text() == SECRET
    assert leads_outside(link.parent, link)


def test_a_published_checkpoint_with_links(red: Callable, tmp_path: Path) -> None:
    prepare(tmp_path)
    torch.save({}, tmp_path / "elsewhere.pth")
    (tmp_path / "checkpoint").mkdir()
    (tmp_path / "checkpoint" / "delta_vector.pth").symlink_to(tmp_path / "elsewhere.pth")
    outcome = red("convert", tmp_path / "checkpoint", "--base", tmp_path / "base", "-o", tmp_path / "out", "--json")
    assert (outcome.code, outcome.json["error"]["code"]) == (2, "path-outside-folder")
    assert "delta_vector.pth" in outcome.err


def test_a_shard_above_the_folder(red: Callable, tmp_path: Path) -> None:
    prepare(tmp_path, shard="20KB")
    index = tmp_path / "base" / "model.safetensors.index.json"
    for shard in ("../x.safetensors", "/x.safetensors", "a/x.safetensors", "..", ""):
        index.write_text(json.dumps({"weight_map": {"model.norm.weight": shard}}))
        outcome = red("export", tmp_path / "adapter", "-o", tmp_path / "out")
        assert outcome.code == 2, outcome.err
