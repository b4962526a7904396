"""The page of architectures: model types, the modules of their positions, the places of biases, and servers."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, get_args

from red_cli.edit.architectures import ARCHITECTURES, Reads, architecture_of
from red_cli.edit.config import Position
from reference.markdown import code, codes, page, table

_MEANINGS: dict[str, str] = {
    "ffn": "the output of the feed-forward network: the paper's RED; in a mixture of experts, the output of the block",
    "attn": "the output projection of attention",
    "query": "the query projection",
    "key": "the key projection",
    "value": "the value projection",
    "qkv": "the fused projection of query, key and value",
    "ffn_norm": "the LayerNorm after the feed-forward network and its residual",
    "attn_norm": "the LayerNorm after attention and its residual",
}
_PROJECTIONS = ("query", "key", "value", "qkv")
_NORMS = ("ffn_norm", "attn_norm")
_ABSENT = "–"
_KINDS = ("Encoders", "Decoders", "Encoder-decoders", "Images and speech")
_INTRODUCTION = """\
The tables go by model type, which is `model_type` in the `config.json` of a model. Llama 1 to 3 are `llama`, and
Qwen2.5 is `qwen2`. `red train` trains encoders and decoders on labels and numbers, and decoders and encoder-decoders
on texts. From Python, you can edit all of them.

A position names the same place in every architecture. `red.positions` takes the names below, and `red++`, which means
`ffn`, `attn` and either `query`, `key` and `value` or `qkv`. For other model types, `red.target_modules` takes a
regular expression of module paths. `red check` suggests one.
"""
_BIAS_PLACES = """\
An export folds a scale into the weights of any module. A bias needs a place. The tables say where it is in a model
with the default configuration of its type:

- *own*: the module has a bias already;
- a key such as `mlp_bias`: the key of the model's configuration that gives the module a bias. `red export` turns it
  on;
- *LLaMA*: `red export` writes the model as a LLaMA that computes the same, which a sliding window or a partial
  rotation prevents;
- *none*: there is no place. Train with `'red.components=[scale]'`, keep the adapter, or export with `--format code`.

A dash marks a position that the architecture does not have. `red check` says so before training where a bias has no
place.
"""
_MODULES = "`N` is the number of the layer. Encoder-decoders count the layers of each stack."
_EXPORTS = """\
`red export --format adapter` and `--format code` work for every architecture, and `--format merged` wherever each
bias has a place. `--format gguf` writes those models that are a LLaMA or become one. The table also says what
servers read of merged weights:

- *every bias*: at all positions where a bias has a place;
- *not at* a position: the server drops the bias there, or refuses the file;
- *scales only*: the server drops any bias, or refuses the export;
- *no*: the server does not run this model type;
- *(read)*: found in the server's code, and not run. Everything else was run.

`--target vllm` and `--target llama.cpp` refuse an export that the server would change.
[Serving](../guide/serving.md) has the versions and the reasons.
"""
_PACKING = """\
`train.packing=true` puts several texts into one sequence. It works with the model types that keep the texts apart:
"""


@dataclass(frozen=True)
class Layout:
    """What an architecture's own model has at each position.

    Attributes:
        modules: position -> path of a module with N for its layer -> where a bias has a place.
        unread: server -> the positions with a place whose biases the server does not read; None: it does not run it.
    """

    kind: str
    modules: Mapping[str, Mapping[str, str]]
    unread: Mapping[str, tuple[str, ...] | None] = field(default_factory=dict)


def make() -> str:
    """The text of the page."""
    layouts = {name: layout_of(name) for name in ARCHITECTURES}
    return page(
        "Architectures",
        _INTRODUCTION,
        table(("position", "what it is"), ((code(name), _MEANINGS[name]) for name in get_args(Position))),
        "## Where a bias has a place",
        _BIAS_PLACES,
        *(part for kind in _KINDS for part in (f"### {kind}", _table_of_places(_of_kind(layouts, kind)))),
        "## What can be exported and served",
        _EXPORTS,
        _table_of_servers(_of_kind(layouts, "Decoders")),
        "## Which modules a position names",
        _MODULES,
        *(part for kind in _KINDS for part in _modules(kind, _of_kind(layouts, kind))),
        "## Packing",
        _PACKING,
        f"{codes(name for name in layouts if architecture_of(name).keeps_texts_apart)}.",
    )


def _of_kind(layouts: Mapping[str, Layout], kind: str) -> dict[str, Layout]:
    """The layouts of one kind of model."""
    return {name: layout for name, layout in layouts.items() if layout.kind == kind}


def _grouped(names: Iterable[str], key: Callable[[str], tuple[Any, ...]]) -> dict[tuple[Any, ...], list[str]]:
    """Model types by what the page says of them, in the order of the table of architectures."""
    groups: dict[tuple[Any, ...], list[str]] = {}
    for name in names:
        groups.setdefault(key(name), []).append(name)
    return groups


def _table_of_places(layouts: Mapping[str, Layout]) -> str:
    """The table of places: a row for the model types that have the same."""

    def cells(name: str) -> tuple[str, ...]:
        modules = layouts[name].modules
        places = (("ffn",), ("attn",), _PROJECTIONS, _NORMS)
        return tuple(_bias_places({where for p in place for where in modules.get(p, {}).values()}) for place in places)

    groups = _grouped(layouts, cells)
    headings = ("model type", "`ffn`", "`attn`", "`query` `key` `value`, or `qkv`", "norms")
    absent = [number for number in range(4) if all(places[number] == _ABSENT for places in groups)]
    rows = [
        (codes(names, " "), *("" if n in absent else place for n, place in enumerate(places)))
        for places, names in groups.items()
    ]
    return table(headings, rows)


def _bias_places(places: set[str]) -> str:
    """The places of biases at one position in a cell."""
    return ", ".join(sorted(places)) or _ABSENT


def _table_of_servers(layouts: Mapping[str, Layout]) -> str:
    """The table of servers: a row for the model types that they read alike."""

    def cells(name: str) -> tuple[str, ...]:
        gguf = name == "llama" or architecture_of(name).as_llama is not None
        servers = architecture_of(name).servers
        vllm = _reads(layouts[name].unread["vllm"], layouts[name], servers.vllm)
        llama_cpp = _reads(layouts[name].unread["llama.cpp"], layouts[name], servers.llama_cpp)
        return "yes" if gguf else "no", vllm, llama_cpp

    groups = _grouped(layouts, cells)
    headings = ("model type", "`--format gguf`", "vLLM", "llama.cpp, by its converter")
    return table(headings, ((codes(names, " "), *reads) for reads, names in groups.items()))


def _reads(unread: tuple[str, ...] | None, layout: Layout, reads: Reads | None) -> str:
    """What a server reads of a model type, in words."""
    if unread is None or reads is None:
        return "no"
    placed = [position for position, modules in layout.modules.items() if set(modules.values()) != {"none"}]
    words = "every bias" if not unread else "scales only" if len(unread) == len(placed) else f"not at {codes(unread)}"
    return words if reads.run else f"{words} (read)"


def _modules(kind: str, layouts: Mapping[str, Layout]) -> Iterable[str]:
    """The tables of modules of one kind: one for the model types that have the same."""
    yield f"### Modules: {kind.lower()}"

    def names_at_positions(name: str) -> tuple[Any, ...]:
        return tuple((position, tuple(modules)) for position, modules in layouts[name].modules.items())

    for modules, names in _grouped(layouts, names_at_positions).items():
        yield f"{codes(names)}:"
        yield table(("position", "modules"), ((code(position), codes(paths, "<br>")) for position, paths in modules))


def layout_of(name: str) -> Layout:
    """What the model of a model type with the default configuration has at each position."""
    model = _model(name)
    paths = {path: getattr(module, "bias", None) is not None for path, module in model.named_modules()}
    modules: dict[str, dict[str, str]] = {}
    places: dict[str, list[str]] = {}
    for position, end in ARCHITECTURES[name].positions.items():
        for path, has_bias in paths.items():
            if (match := re.fullmatch(rf"(?:.*\.)?{end}", path)) is not None:
                numbered = f"{path[: match.start(1)]}N{path[match.end(1) :]}"
                modules.setdefault(position, {})[numbered] = "own" if has_bias else _bias_place(name, model, path)
                places.setdefault(position, []).append(path)
    unread = {server: _unread(name, server, model, paths, places) for server in ("vllm", "llama.cpp")}
    return Layout(_kind(name), modules, unread)


@cache
def _model(name: str) -> Any:
    """A model of a model type without weights: two layers, else the default configuration."""
    import torch
    from transformers import AutoConfig, AutoModel, logging

    logging.set_verbosity_error()
    with torch.device("meta"):
        config = AutoConfig.for_model(name)
        if hasattr(config, "num_hidden_layers") and name != "gpt_neo":  # whose layers have a list of their kinds
            with contextlib.suppress(NotImplementedError, AttributeError):
                config.num_hidden_layers = 2
        return AutoModel.from_config(config)


def _placement(name: str, model: Any, path: str) -> Any:
    """Where the bias of a module without one is placed; None: nowhere."""
    from red_cli.errors import UserError
    from red_cli.export.bias_placement import place_biases

    try:
        return place_biases(name, {**model.config.to_dict(), "sliding_window": None}, [path])
    except UserError:
        return None


def _bias_place(name: str, model: Any, path: str) -> str:
    """Where a bias of a module without one has a place, as a cell shows it."""
    placement = _placement(name, model, path)
    if placement is None:
        return "none"
    return "LLaMA" if placement.as_llama else codes(placement.switches)


def _unread(
    name: str, server: str, model: Any, paths: Mapping[str, bool], places: Mapping[str, list[str]]
) -> tuple[str, ...] | None:
    """The positions with a place for a bias that a server does not read; None if it does not run the model type.

    llama.cpp also refuses biases of zeros, which a key of the configuration gives to other modules.
    """
    servers = architecture_of(name).servers
    reads = servers.vllm if server == "vllm" else servers.llama_cpp
    if reads is None:
        return None
    found = []
    for position, modules in places.items():
        placements = {path: None if paths[path] else _placement(name, model, path) for path in modules}
        placed = [path for path in modules if paths[path] or placements[path] is not None]
        biased = set(placed)
        for placement in (each for each in placements.values() if each is not None):
            if placement.as_llama:
                biased.clear()  # a LLaMA, of which both read everything
            elif server == "llama.cpp":
                patterns = [rf"(?:.*\.)?(?:{pattern})" for pattern in placement.also_biased]
                biased |= {path for path in paths if any(re.fullmatch(pattern, path) for pattern in patterns)}
        if any(not reads.has_place_at(path) for path in biased):
            found.append(position)
    return tuple(found)


def _kind(name: str) -> str:
    """The kind of a model type, by the classes that transformers has for it."""
    from transformers.models.auto import modeling_auto as auto

    kinds = {
        "Encoder-decoders": auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
        "Images and speech": auto.MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING_NAMES,
        "Encoders": auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES,
        "Decoders": auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    }
    return next((kind for kind, names in kinds.items() if name in names), "Images and speech")
