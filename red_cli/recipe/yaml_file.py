"""YAML with line numbers: text -> plain data and the line of every key."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from red_cli.errors import UserError

KeyPath = tuple[str | int, ...]


class _Loader(yaml.SafeLoader):
    """SafeLoader with YAML 1.2's numbers and booleans: `1e-3` is a number, `no` is a word."""


class _Dumper(yaml.SafeDumper):
    """SafeDumper that quotes what `_Loader` would not read back as text."""


_BOOL = r"true|True|TRUE|false|False|FALSE"
_INT = r"[-+]?(?:0|[1-9][0-9_]*)"
_FLOAT = (
    r"[-+]?(?:(?:\.[0-9]+|[0-9]+\.[0-9]*)(?:[eE][-+]?[0-9]+)?|[0-9]+[eE][-+]?[0-9]+|\.(?:inf|Inf|INF))|\.(?:nan|NaN)"
)
_SCALARS = {"bool": (_BOOL, "tTfF"), "int": (_INT, "-+0123456789"), "float": (_FLOAT, "-+0123456789.")}
_TAG = "tag:yaml.org,2002:"
_REPLACED = {_TAG + kind for kind in (*_SCALARS, "timestamp")}

for _class in (_Loader, _Dumper):
    _class.yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in resolvers if tag not in _REPLACED]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    for _kind, (_pattern, _first) in _SCALARS.items():
        _class.add_implicit_resolver(_TAG + _kind, re.compile(f"(?:{_pattern})$"), list(_first))


@dataclass
class Document:
    """Plain data, the line (from 1) of every key path, and the faults found on the way: (line, path, message)."""

    data: dict[str, Any] = field(default_factory=dict)
    lines: dict[KeyPath, int] = field(default_factory=dict)
    faults: list[tuple[int, KeyPath, str]] = field(default_factory=list)


def read_document(path: Path) -> Document:
    """Read a YAML mapping.

    Raises:
        UserError: the file is missing, not text, empty, not YAML (line named), or not a mapping.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise UserError(f"{path}: not a text file") from None
    loader = None
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            raise UserError(f"{path}: the file is empty")
        if not isinstance(node, yaml.MappingNode):
            raise UserError(f"{path}, line 1: expected keys and values, such as  task: {{name: glue, subset: sst2}}")
        document = Document()
        document.data = _construct(loader, node, (), document)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise UserError(f"{path}, line {line}: not valid YAML: {error.problem}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: not valid YAML: {str(error).splitlines()[0]}") from None
    finally:
        if loader is not None:
            loader.dispose()
    return document


def parse_value(text: str) -> Any:
    """The value of one `KEY=VALUE`, by the same rules as in a file.

    Raises:
        ValueError: it is not YAML.
    """
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506 - a SafeLoader
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError(str(getattr(error, "problem", None) or error)) from None


def dump(data: Any) -> str:
    """YAML text with keys in the order given."""
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)


def _construct(loader: _Loader, node: yaml.Node, path: KeyPath, document: Document) -> Any:
    document.lines[path] = node.start_mark.line + 1
    if isinstance(node, yaml.MappingNode):
        loader.flatten_mapping(node)
        mapping: dict[str, Any] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            key = loader.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                document.faults.append((line, (*path, str(key)), "a key is a word; put it in quotes"))
                key = str(key)
            if key in mapping:
                document.faults.append((line, (*path, key), "given twice"))
            mapping[key] = _construct(loader, value_node, (*path, key), document)
            document.lines[(*path, key)] = line
        return mapping
    if isinstance(node, yaml.SequenceNode):
        return [_construct(loader, child, (*path, index), document) for index, child in enumerate(node.value)]
    return loader.construct_object(node, deep=True)
