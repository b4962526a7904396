"""Read YAML with the line number of every key, and write it.

Hand-written because PyYAML drops the lines, and the libraries that keep them would be another dependency.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from red_cli.errors import UserError, first_line, one_line, shown

KeyPath = tuple[str | int, ...]


# Bounds on the size of a file or value. A recipe has a few hundred nodes, but a few hundred bytes of nested aliases can
# expand to millions.
_MOST_TEXT = 1_000_000  # characters
_MOST_NODES = 20_000  # keys and values, aliases expanded; a long text counts as one for every 100 characters
_DEEPEST = 50
_TEXT_OF_A_NODE = 100


class _Loader(yaml.SafeLoader):
    """SafeLoader with the numbers and booleans of YAML 1.2 (`1e-3` is a number, `no` is a string), and with bounds."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._composed = 0
        self._depth = 0
        self._measures: dict[int, tuple[int, int]] = {}  # id of a node -> (nodes, depth), aliases expanded

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node:
        """Compose a node with its children.

        Raises:
            yaml.MarkedYAMLError: the node is too large or too deep, or contains itself.
        """
        is_alias = self.check_event(yaml.AliasEvent)
        mark = self.peek_event().start_mark
        self._composed += 1
        self._depth += 1
        if self._depth > _DEEPEST:
            raise _refused(f"keys and lists are nested more than {_DEEPEST} deep", mark)
        if self._composed > _MOST_NODES:
            raise _refused(_TOO_MANY, mark)
        node = super().compose_node(parent, index)
        assert node is not None
        self._depth -= 1
        if not is_alias:
            self._measures[id(node)] = self._measure(node, mark)
        elif id(node) not in self._measures:
            raise _refused("an alias is inside the value that it refers to", mark)
        return node

    def _measure(self, node: yaml.Node, mark: yaml.Mark) -> tuple[int, int]:
        if isinstance(node, yaml.ScalarNode):
            return 1 + len(node.value) // _TEXT_OF_A_NODE, 1
        parts = [part for pair in node.value for part in pair] if isinstance(node, yaml.MappingNode) else node.value
        measures = [self._measures[id(part)] for part in parts]
        size, depth = 1 + sum(size for size, _ in measures), 1 + max((depth for _, depth in measures), default=0)
        if size > _MOST_NODES or depth > _DEEPEST:
            raise _refused(f"{_TOO_MANY} once aliases are expanded", mark)
        return size, depth


_TOO_MANY = f"more than {_MOST_NODES:,} keys and values"


def _refused(problem: str, mark: yaml.Mark) -> yaml.MarkedYAMLError:
    """The YAML error for a construct that recipes do not allow, at its place in the file."""
    return yaml.MarkedYAMLError(problem=problem, problem_mark=mark)


class _Dumper(yaml.SafeDumper):
    """SafeDumper that quotes strings that `_Loader` would read as another type."""


_BOOL = r"true|True|TRUE|false|False|FALSE"
_INT = r"[-+]?(?:0|[1-9][0-9_]*)"
_FLOAT = (
    r"[-+]?(?:(?:\.[0-9]+|[0-9]+\.[0-9]*)(?:[eE][-+]?[0-9]+)?|[0-9]+[eE][-+]?[0-9]+|\.(?:inf|Inf|INF))|\.(?:nan|NaN)"
)
_SCALARS = {"bool": (_BOOL, "tTfF"), "int": (_INT, "-+0123456789"), "float": (_FLOAT, "-+0123456789.")}
_TAG = "tag:yaml.org,2002:"
_NO_TEXT = re.compile("[\\0\ud800-\udfff]")  # not valid in file names, nor for tokenizers
_WHAT_NO_TEXT = "contains a NUL character or half of a surrogate pair"
_REPLACED = {_TAG + kind for kind in (*_SCALARS, "timestamp")}

for _class in (_Loader, _Dumper):
    _class.yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in resolvers if tag not in _REPLACED]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    for _kind, (_pattern, _first) in _SCALARS.items():
        _class.add_implicit_resolver(_TAG + _kind, re.compile(f"(?:{_pattern})$"), list(_first))


def _represent_text(dumper: _Dumper, text: str) -> yaml.Node:
    """Quote text with line breaks that YAML would normalise."""
    rare_break = any(character in text for character in "\x85\u2028\u2029")
    return dumper.represent_scalar(f"{_TAG}str", text, style='"' if rare_break else None)


_Dumper.add_representer(str, _represent_text)


@dataclass
class Document:
    """Plain data, the line (from 1) of every key path, and the faults that were found: (line, path, message)."""

    data: Any = field(default_factory=dict)
    lines: dict[KeyPath, int] = field(default_factory=dict)
    faults: list[tuple[int, KeyPath, str]] = field(default_factory=list)


def read_document(path: Path) -> Document:
    """Read a YAML mapping.

    Raises:
        UserError: the file is not text, empty, not YAML (with the line), too large, or not a mapping.
    """
    if path.stat().st_size > 4 * _MOST_TEXT:
        raise UserError("invalid-yaml", f"{path}: too large for a recipe")
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise UserError("invalid-yaml", f"{path}: not a text file") from None
    try:
        node, document = _read(text)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        quote = "Put a text with ${NAME} in quotes." if "${" in "".join(text.splitlines()[line - 1 : line]) else None
        raise UserError(
            "invalid-yaml", f"{path}, line {line}: not valid YAML: {first_line(str(error.problem))}", hint=quote
        ) from None
    except yaml.YAMLError as error:
        raise UserError("invalid-yaml", f"{path}: not valid YAML: {first_line(str(error))}") from None
    if node is None:
        raise UserError("invalid-yaml", f"{path}: the file is empty")
    if not isinstance(node, yaml.MappingNode):
        raise UserError(
            "invalid-yaml", f"{path}, line 1: expected keys and values, such as  task: {{name: glue, subset: sst2}}"
        )
    return document


def parse_value(text: str) -> Any:
    """Read a text as YAML by the rules of a recipe file, such as the value of a `KEY=VALUE`.

    Raises:
        ValueError: the text is not YAML, or is too large.
    """
    try:
        _, document = _read(text)
    except yaml.YAMLError as error:
        raise ValueError(first_line(str(getattr(error, "problem", None) or error))) from None
    for _, path, message in document.faults:
        raise ValueError(f"{one_line('.'.join(map(str, path)))}: {message}" if path else message)
    return document.data


def dump(data: Any) -> str:
    """YAML text in block style; keys keep their order."""
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)


def dump_flow(data: Any) -> str:
    """YAML text in flow style, on one line unless a string in it has several."""
    text: str = yaml.dump(
        data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=2**30, default_flow_style=True
    )
    return text.removesuffix("...\n").removesuffix("\n")


def _read(text: str) -> tuple[yaml.Node | None, Document]:
    """Parse a text into its root node (None if it is empty) and document.

    Raises:
        yaml.YAMLError: the text is not YAML, or is too large for a recipe.
    """
    if len(text) > _MOST_TEXT:
        raise yaml.YAMLError(f"more than {_MOST_TEXT:,} characters")
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        document = Document()
        document.data = None if node is None else _construct(loader, node, (), document)
        return node, document
    finally:
        loader.dispose()


def _construct(loader: _Loader, node: yaml.Node, path: KeyPath, document: Document) -> Any:
    """Build the value of a YAML node, and record the line number of every key in the document."""
    document.lines[path] = node.start_mark.line + 1
    if isinstance(node, yaml.MappingNode):
        mapping: dict[str, Any] = {}
        for key, (line, value_node) in _entries(node, path, document).items():
            mapping[key] = _construct(loader, value_node, (*path, key), document)
            document.lines[(*path, key)] = line
        return mapping
    if isinstance(node, yaml.SequenceNode):
        return [_construct(loader, child, (*path, index), document) for index, child in enumerate(node.value)]
    return _scalar(loader, node, path, document)


def _entries(node: yaml.MappingNode, path: KeyPath, document: Document) -> dict[str, tuple[int, yaml.Node]]:
    """Key -> (line, node of its value). The mapping's own keys override merged ones (`<<`)."""
    own: dict[str, tuple[int, yaml.Node]] = {}
    merged: dict[str, tuple[int, yaml.Node]] = {}
    merges = 0
    for key_node, value_node in node.value:
        line = key_node.start_mark.line + 1
        if key_node.tag == f"{_TAG}merge":
            merges += 1
            if merges > 1:
                document.faults.append((line, (*path, "<<"), "set twice; merge a list instead: <<: [*a, *b]"))
            for source in value_node.value if isinstance(value_node, yaml.SequenceNode) else [value_node]:
                if not isinstance(source, yaml.MappingNode):
                    raise _refused("<< expects keys and values", source.start_mark)
                for key, entry in _entries(source, path, document).items():
                    merged.setdefault(key, entry)
            continue
        key = key_node.value if isinstance(key_node, yaml.ScalarNode) else "?"
        if key_node.tag not in (f"{_TAG}str", f"{_TAG}value"):
            document.faults.append((line, (*path, key), "a key must be a string; put it in quotes"))
        if _NO_TEXT.search(key):
            document.faults.append((line, (*path, key), _WHAT_NO_TEXT))
        if key in own:
            document.faults.append((line, (*path, key), "set twice"))
        own[key] = (line, value_node)
    return {**merged, **own}


def _scalar(loader: _Loader, node: yaml.Node, path: KeyPath, document: Document) -> Any:
    """Build the value of a YAML scalar; record a fault, if it cannot be read as its type."""
    try:
        value = loader.construct_object(node)
    except (ValueError, LookupError, AttributeError, TypeError, OverflowError):  # each YAML type raises its own
        kind = "whole number" if node.tag == f"{_TAG}int" else node.tag.removeprefix(_TAG)
        document.faults.append((document.lines[path], path, f"{shown(node.value)} cannot be read as a {kind}"))
        return None
    if isinstance(value, str) and _NO_TEXT.search(value):
        document.faults.append((document.lines[path], path, f"{_WHAT_NO_TEXT}: {shown(value)}"))
    return value
