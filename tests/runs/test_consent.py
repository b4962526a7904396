"""Python code of a model runs only if the user allows it; an opened folder cannot allow it."""

from __future__ import annotations

import io
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml

from tests.end_to_end.test_instruction_tuning import talk_data, talk_recipe, talking_base, write_jsonl

ALLOW = "model.trust_remote_code=true"
# Each module leaves a mark where it is run; all give the same model as the classes of transformers.
CODE = """
from pathlib import Path
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

Path({mark!r}).mkdir(exist_ok=True)
(Path({mark!r}) / __name__.rpartition(".")[2]).touch()


class Config(LlamaConfig):
    pass


class Model(LlamaForCausalLM):
    config_class = Config


class Words(PreTrainedTokenizerFast):
    pass
"""
MODEL_CODE = {"auto_map": {"AutoConfig": "own_model.Config", "AutoModelForCausalLM": "own_model.Model"}}
TOKENIZER_CODE = {"auto_map": {"AutoTokenizer": [None, "own_words.Words"]}}


def change_json(file: Path, **changes: object) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def ask_for_code(recipe: Path, asks: bool = True) -> None:
    content = yaml.safe_load(recipe.read_text())
    content["model"]["trust_remote_code"] = asks
    recipe.write_text(yaml.safe_dump(content))


def give_code(model: Path, mark: Path, kind: str) -> None:
    """Let a model's configuration, or its tokenizer's, refer to code in its folder."""
    name = f"own_{kind}"
    (model / f"{name}.py").write_text(CODE.format(mark=str(mark)))
    if kind == "model":
        change_json(model / "config.json", **MODEL_CODE)
    else:
        change_json(model / "tokenizer_config.json", **TOKENIZER_CODE, tokenizer_class="Words")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base, a run, an exported model and an adapter to be shared, before anyone has put code into them."""
    from red_cli.export.export import export, open_source
    from red_cli.recipe.load import load_recipe
    from red_cli.runs.events import NullListener
    from red_cli.train.loop import train

    folder = tmp_path_factory.mktemp("made")
    recipe = talk_recipe(folder, talking_base(folder / "base"), talk_data(folder / "data"))
    train(load_recipe(str(recipe), overrides=["train.max_steps=1", "eval.generation.max_new_tokens=2"]))
    for name, form in (("model", "merged"), ("adapter", "adapter")):
        export(open_source(folder / "run", None, None), folder / name, form, None, None, None, NullListener())
    return folder


@pytest.fixture
def given(made: Path, tmp_path: Path) -> Path:
    """A copy of that folder as received from another person: every recipe asks to run the code of the models."""
    folder = tmp_path / "given"
    shutil.copytree(made, folder)
    for file in [*folder.rglob("recipe.yaml"), *folder.rglob("adapter_config.json")]:
        file.write_text(file.read_text().replace(str(made), str(folder)))
    for file in folder.rglob("recipe.yaml"):
        ask_for_code(file)
    for file in folder.rglob("adapter_config.json"):
        change_json(file, base_digest=None)
    write_jsonl(folder / "questions.jsonl", [{"instruction": "bcd"}])
    return folder


SUITE = ("--suite", "alpaca-eval", "--template", "human-assistant", "eval.generation.max_new_tokens=2")
# what is typed, `{}` standing for the folder that is given
COMMANDS = {
    "eval of a run": ("eval", "{}/run"),
    "eval of an adapter in its run": ("eval", "{}/run/adapter"),
    "eval of a shared adapter": ("eval", "{}/adapter"),
    "eval of an exported model": ("eval", "{}/model"),
    "a suite": ("eval", "{}/run", *SUITE, "--questions", "{}/questions.jsonl"),
    "chat": ("chat", "{}/run"),
    "chat with an exported model": ("chat", "{}/model"),
}
OTHERS = {
    "export of a run": ("export", "{}/run", "-o", "{}/out"),
    "export of an adapter": ("export", "{}/adapter", "-o", "{}/out"),
    "report": ("report", "{}/run"),
}


def typed(command: tuple[str, ...], folder: Path) -> list[str]:
    return [part.format(folder) for part in command]


@pytest.fixture(autouse=True)
def nothing_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("bcd\n"))


@pytest.mark.parametrize("kind", ["model", "words"])
@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS.keys())
def test_code_runs_by_the_users_consent_only(
    red: Callable, given: Path, tmp_path: Path, command: tuple[str, ...], kind: str
) -> None:
    ran = tmp_path / "ran"
    for model in (given / "base", given / "model"):
        give_code(model, ran, kind)
    outcome = red(*typed(command, given))
    assert (outcome.code, outcome.out) == (2, ""), outcome.err
    assert not ran.exists()
    assert "recipe.yaml" in outcome.err
    assert ALLOW in outcome.err
    if command[0] != "chat":
        assert red(*typed(command, given), "--json").json["error"]["code"] == "code-not-allowed"
        assert not ran.exists()
    assert red(*typed(command, given), ALLOW).code == 0
    assert [path.name for path in ran.iterdir()] == [f"own_{kind}"]


@pytest.mark.parametrize("kind", ["model", "words"])
@pytest.mark.parametrize("command", OTHERS.values(), ids=OTHERS.keys())
def test_commands_that_need_no_code_run_none(
    red: Callable, given: Path, tmp_path: Path, command: tuple[str, ...], kind: str
) -> None:
    """An export reads only the base's tensors; a report reads only the run's files."""
    ran = tmp_path / "ran"
    give_code(given / "base", ran, kind)
    outcome = red(*typed(command, given))
    assert outcome.code == 0, outcome.err
    assert not ran.exists()
    assert (kind == "words" and command[0] == "export") == (ALLOW in outcome.err)


def test_a_folder_that_asks_for_code_of_a_model_without_any(red: Callable, given: Path) -> None:
    assert red("eval", given / "run").code == 0


def test_a_base_that_needs_code_names_the_override(red: Callable, given: Path, tmp_path: Path) -> None:
    give_code(given / "base", tmp_path / "ran", "model")
    change_json(given / "base" / "config.json", model_type="unheard-of")
    for file in given.rglob("recipe.yaml"):
        ask_for_code(file, asks=False)
    outcome = red("eval", given / "run", "--json")
    assert (outcome.code, outcome.json["error"]["code"]) == (2, "code-not-allowed")
    assert ALLOW in outcome.err
    assert not (tmp_path / "ran").exists()


def test_a_recipe_that_the_user_names_may_ask(red: Callable, given: Path, tmp_path: Path) -> None:
    give_code(given / "base", tmp_path / "ran", "model")
    shutil.copy(given / "run" / "recipe.yaml", tmp_path / "mine.yaml")
    assert red("eval", given / "run", "--recipe", tmp_path / "mine.yaml").code == 0
    assert (tmp_path / "ran").exists()


def test_consent_alone_does_not_move_the_figures(red: Callable, given: Path) -> None:
    result = red("eval", given / "run", ALLOW, "--json").json
    assert result["folder"] == str(given / "run")


def test_a_checkpoint_conversion_runs_no_code(red: Callable, given: Path, tmp_path: Path) -> None:
    give_code(given / "base", tmp_path / "ran", "model")
    change_json(given / "base" / "config.json", model_type="unheard-of")
    outcome = red("convert", given / "base", "--base", given / "base", "-o", tmp_path / "out")
    assert outcome.code == 2
    assert not (tmp_path / "ran").exists()


def test_code_of_a_kernel_on_the_hub(red: Callable, given: Path) -> None:
    change_json(given / "base" / "config.json", attn_implementation="someone/kernel")
    outcome = red("eval", given / "run", "--json")
    assert (outcome.code, outcome.json["error"]["code"]) == (2, "code-not-allowed")
    assert "someone/kernel" in outcome.err


class Harm:
    """A pickle that creates a folder when it is loaded without `weights_only`."""

    def __init__(self, mark: Path) -> None:
        self.mark = str(mark)

    def __reduce__(self) -> tuple:
        return os.mkdir, (self.mark,)


@pytest.mark.parametrize("suffix", [".bin", ".index"])
def test_pickles_hold_tensors_alone(red: Callable, given: Path, tmp_path: Path, suffix: str) -> None:
    """In a base and in a published checkpoint."""
    mark, base = tmp_path / "ran", given / "base"
    (base / "model.safetensors").unlink()
    torch.save({"lm_head.weight": Harm(mark)}, base / ("pytorch_model.bin" if suffix == ".bin" else "a.bin"))
    if suffix == ".index":
        places = {"weight_map": {"lm_head.weight": "a.bin"}, "metadata": {}}
        (base / "pytorch_model.bin.index.json").write_text(json.dumps(places))
    torch.save({"x": Harm(mark)}, base / "delta_vector.pth")
    for command in (
        ("eval", given / "run"),
        ("export", given / "run", "-o", tmp_path / "out"),
        ("convert", base, "--base", base, "-o", tmp_path / "out"),
        ("train", given / "run" / "recipe.yaml", f"output.dir={tmp_path / 'new'}"),
    ):
        assert red(*command).code == 2
    assert not mark.exists()


def test_a_checkpoint_holds_numbers_alone(red: Callable, given: Path, tmp_path: Path) -> None:
    recipe = given / "run" / "recipe.yaml"
    place = given / "run" / "checkpoints" / "step-1"
    torch.save({"optimizer": Harm(tmp_path / "ran")}, place / "optimizer.pt")
    change_json(place / "state.json", files={})
    keys = [f"output.dir={tmp_path / 'new'}", f"train.resume_from_checkpoint={place}", "train.max_steps=1"]
    outcome = red("train", recipe, *keys, "--json")
    assert (outcome.code, outcome.json["error"]["code"]) == (2, "file-damaged"), outcome.err
    assert "optimizer.pt" in outcome.err
    assert not (tmp_path / "ran").exists()


def test_a_template_is_rendered_in_a_sandbox(red: Callable, given: Path, tmp_path: Path) -> None:
    content = yaml.safe_load((given / "run" / "recipe.yaml").read_text())
    harm = "{{ cycler.__init__.__globals__.os.mkdir('" + str(tmp_path / "ran") + "') }}"
    content["task"]["template"] = harm
    (given / "run" / "recipe.yaml").write_text(yaml.safe_dump(content))
    outcome = red("eval", given / "run", "--json")
    assert (outcome.code, outcome.json["error"]["code"]) == (2, "invalid-template"), outcome.err
    assert not (tmp_path / "ran").exists()
