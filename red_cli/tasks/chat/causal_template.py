"""Templates that write message after message: one rendering has the text of every beginning of a conversation.

Such a template is a loop over the messages in which each message's text depends on the messages before it alone, with a
fixed text after the loop. Whether a template is one is read from its syntax; any doubt means that it is not.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from jinja2 import Environment, nodes

_MESSAGES, _ASKED = "messages", "add_generation_prompt"
# Attributes of a loop that do not depend on what follows
_BEFORE = ("first", "index", "index0", "previtem", "cycle", "changed")
_TOO_COMPLEX = (nodes.Block, nodes.Include, nodes.Import, nodes.FromImport, nodes.Extends, nodes.Break, nodes.Continue)


@dataclass(frozen=True)
class CausalTemplate:
    """A template that ends each message with a mark.

    Attributes:
        compiled: the template with marks.
        mark: a text that occurs nowhere else.
    """

    compiled: Any
    mark: str

    @classmethod
    def of(cls, text: str, environment: Environment) -> CausalTemplate | None:
        """The template with marks; None if a message's text may depend on what follows."""
        tree = environment.parse(text)
        loop = _loop_over_messages(tree)
        if loop is None:
            return None
        mark = f"\0{secrets.token_hex(16)}\0"
        loop.body.append(nodes.Output([nodes.TemplateData(mark)], lineno=loop.lineno).set_environment(environment))
        return cls(environment.from_string(tree), mark)

    def beginnings(self, arguments: Mapping[str, Any]) -> tuple[list[str], str] | None:
        """The text up to each message, and the text after the last; None if the loop leaves out other than a first one.

        The text up to a first message that the loop leaves out is empty.
        """
        *parts, after = self.compiled.render(**arguments).split(self.mark)
        left_out = len(arguments[_MESSAGES]) - len(parts)
        if left_out not in (0, 1):
            return None
        return ["", *accumulate(parts)][1 - left_out :], after


def _loop_over_messages(tree: nodes.Template) -> nodes.For | None:
    """The only loop over messages, if each message's text depends on the messages before it alone."""
    if any(True for _ in tree.find_all(_TOO_COMPLEX)):
        return None
    body = tree.body
    aliases = {_MESSAGES, *_aliases(tree)}
    loops = [node for node in body if isinstance(node, nodes.For) and _is_name(node.iter, aliases)]
    if len(loops) != 1 or loops[0].recursive or loops[0].else_ or loops[0].test is not None:
        return None
    (loop,) = loops
    after = [name.name for node in body[body.index(loop) + 1 :] for name in _names(node)]
    everywhere = [name.name for name in _names(tree)]
    fixed = not {*after} & {*aliases, *_assigned(tree), "tools", "loop"}
    if not fixed or after.count(_ASKED) != everywhere.count(_ASKED) or "strftime_now" in everywhere:
        return None
    uses = sum(name in (*aliases, "loop") for name in everywhere)
    return loop if uses == _known_uses(tree, aliases) else None


def _known_uses(tree: nodes.Template, aliases: set[str]) -> int:
    """The number of uses of messages and of the loop that do not depend on what follows."""
    first = sum(
        _is_name(node.node, aliases) and isinstance(node.arg, nodes.Const) and node.arg.value == 0
        for node in tree.find_all(nodes.Getitem)
    )
    attributes = sum(_is_name(node.node, {"loop"}) and node.attr in _BEFORE for node in tree.find_all(nodes.Getattr))
    assignments = sum(
        1 + _is_name(node.target, aliases)
        for node in tree.find_all(nodes.Assign)
        if _is_name(node.target, aliases) and _from_first(node.node)
    )
    return first + attributes + assignments + 1  # the loop's own


def _names(node: nodes.Node) -> Iterator[nodes.Name]:
    """The names in a node, itself included."""
    if isinstance(node, nodes.Name):
        yield node
    yield from node.find_all(nodes.Name)


def _assigned(tree: nodes.Template) -> set[str]:
    """The names that the template sets, namespaces included."""
    targets = {name.name for node in tree.find_all(nodes.Assign) for name in _names(node.target)}
    blocks = {name.name for node in tree.find_all(nodes.AssignBlock) for name in _names(node.target)}
    return {*targets, *blocks, *(node.name for node in tree.find_all(nodes.NSRef))}


def _aliases(tree: nodes.Template) -> set[str]:
    """The names that stand for the messages, or for all but the first."""
    assigned = [node for node in tree.find_all(nodes.Assign) if _from_first(node.node)]
    return {str(node.target.name) for node in assigned if isinstance(node.target, nodes.Name)}


def _from_first(node: nodes.Node) -> bool:
    """Whether a value is the messages, or the messages from the second on."""
    if _is_name(node, {_MESSAGES}):
        return True
    if not isinstance(node, nodes.Getitem) or not _is_name(node.node, {_MESSAGES}):
        return False
    part = node.arg
    if not isinstance(part, nodes.Slice) or part.stop is not None or part.step is not None:
        return False
    return isinstance(part.start, nodes.Const) and part.start.value in (0, 1)


def _is_name(node: nodes.Node, names: set[str]) -> bool:
    """Whether a node of a template's syntax tree is a variable with one of the names."""
    return isinstance(node, nodes.Name) and node.name in names
