"""A row and a file add a method to all commands, as CONTRIBUTING.md says."""

from __future__ import annotations

from pathlib import Path

from safetensors.torch import load_file

from tests.conftest import write_recipe
from tests.copied_package import CopiedPackage
from tests.tiny import LAYERS

SECTION = '''
class Gain(Section):
    """One factor for each module."""

    positions: list[Position] = Field(default=["ffn"], description="Modules whose outputs are multiplied.")


@dataclass(frozen=True)
class MethodSpec:'''
ROW = """    "gain": MethodSpec("one factor a module", "a factor after each module", options=Gain),
}
_EXTRAS"""
FIELD = """    gain: Annotated[Gain | None, Role.OPTIONS] = Field(default=None, description="Options of method gain.")

    @property
    def method_spec("""
METHOD = '''"""One factor for each module, which multiplies its output."""

from pathlib import Path

import torch
from torch import nn

from red_cli.edit.recorded_base import require_same_base
from red_cli.edit.config import RedConfig
from red_cli.edit.targets import find_targets
from red_cli.methods.method import Method, Rates
from red_cli.methods.base_parameters import base_size, set_trainable
from red_cli.methods.method import Trained
from red_cli.methods.trained_description import read_trained_config
from red_cli.methods.trained_tensors import copy_trained, write_trained
from red_cli.recipe.methods import Gain


def _attach(model, options, head):
    size = base_size(model, head)
    paths = [target.path for target in find_targets(model, RedConfig(positions=options.positions))]
    for path in paths:
        module = model.get_submodule(path)
        module.gain = nn.Parameter(torch.ones(1, device=next(module.parameters()).device))
        module.register_forward_hook(lambda module, inputs, output: output * module.gain)
    part = [f"{path}.gain" for path in paths]
    set_trainable(model, part, head)
    return Trained(model, paths, part, head, size, no_decay=set(part))


def _parameters(trained):
    return dict(zip(trained.names, trained.parameters(trained.names)))


def _save(trained, folder, options, revision, digest):
    write_trained(folder, trained.model, "gain", options.model_dump(), trained.head, _parameters(trained),
                 "gains.safetensors", revision, digest)


def _load_weights(trained, folder):
    copy_trained(folder, _parameters(trained))


def _load(model, folder):
    stored = read_trained_config(folder)
    require_same_base(model, stored, folder)
    trained = _attach(model, Gain.model_validate(stored.options), stored.head)
    _load_weights(trained, folder)
    return trained


METHOD = Method(_attach, _save, _load, _load_weights, Rates(1e-3, 1e-1, usual=1e-2))
'''


def test_a_method_is_two_files(tmp_path: Path, base: Path, data: Path) -> None:
    package = CopiedPackage(tmp_path)
    package.change(
        "recipe/methods.py",
        ('"lora", "ia3"]', '"lora", "ia3", "gain"]'),
        ("\n@dataclass(frozen=True)\nclass MethodSpec:", SECTION),
        ("}\n_EXTRAS", ROW),
        ("\n    @property\n    def method_spec(", FIELD),
    )
    package.write("methods/gain.py", METHOD)
    recipe, run = write_recipe(tmp_path, base, data), tmp_path / "run"
    options = ["method=gain", "gain.positions=[ffn, query]", "train.learning_rate=5e-2"]
    helped, schema, planned, trained, scored, refused = package.red(
        ["compare", "--help"],
        ["schema"],
        ["check", recipe, *options],
        ["train", recipe, *options, "--json"],
        ["eval", run / "adapter", "--split", "validation", "--json"],
        ["export", run, "--output", tmp_path / "merged", "--json"],
    )
    assert "ia3, gain." in helped.out
    assert "gain" in schema.json["properties"]["method"]["enum"]
    assert "one factor a module on " in planned.out
    assert (trained.code, trained.json["method"], trained.json["parameters"]["edited"]) == (0, "gain", 2 * LAYERS)
    gains = load_file(run / "adapter" / "gains.safetensors")
    assert all(float(value) != 1 for name, value in gains.items() if name.endswith(".gain"))
    validation = trained.json["splits"]["validation"]
    assert scored.json["scores"] == {name: value for name, value in validation.items() if name != "examples"}
    assert (refused.code, refused.json["error"]["code"]) == (2, "unsupported-method")
    assert "method gain" in refused.err
