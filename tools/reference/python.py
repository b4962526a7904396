"""The page of the public Python functions and classes, read from their source: signatures and docstrings."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from reference.markdown import block, code, page, text

_ROOT = Path(__file__).resolve().parents[2]
_LONGEST_LINE = 88
_PARTS = re.compile(r"^(Args|Returns|Raises|Attributes|Yields):$", re.MULTILINE)
_INTRODUCTION = """\
Every name on this page can be imported from `red_cli` or `red_cli.peft`; other modules may change between versions.
The package is typed. [RED in your own loop](../guide/own_loop.md) shows these functions with PyTorch, Trainer and
TRL.
"""
_ERRORS = """\
Errors are exceptions of `red_cli.errors`: `UserError` for wrong input, `RunFailed` and `Interrupted`, all of them a
`RedError` with the attributes `code` ([message codes](message_codes.md)), `message` and `hint`.
"""
_OF_PACKAGES = {
    "red_cli": "Importing `red_cli` is fast: torch and transformers are imported when a function is first used.",
    "red_cli.peft": "RED as a tuner of PEFT. Importing `red_cli.peft` registers it. It needs the extra `baselines`.",
}


@dataclass(frozen=True)
class Definition:
    """A function or class, and the module in which it is defined."""

    node: ast.FunctionDef | ast.ClassDef
    module: ast.Module


def make() -> str:
    """The text of the page."""
    parts = [_INTRODUCTION, _ERRORS]
    for package, remark in _OF_PACKAGES.items():
        parts += [f"## {package}", remark]
        for name in public_names(package):
            parts += _part(package, name)
    return page("Python", *parts)


def public_names(package: str) -> list[str]:
    """The functions and classes in `__all__` of a package."""
    for node in _module(package).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__":
            names: list[str] = ast.literal_eval(node.value)
            return [name for name in names if not name.startswith("__")]
    raise ValueError(f"{package} has no __all__")


@cache
def _module(name: str) -> ast.Module:
    """The syntax tree of a module."""
    path = _ROOT / Path(*name.split("."))
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return ast.parse(file.read_text(encoding="utf-8"))


def _find(module: str, name: str) -> Definition:
    """The definition of a name that a module defines or imports."""
    tree = _module(module)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == name:
            return Definition(node, tree)
        if isinstance(node, ast.ImportFrom) and node.module and any(each.name == name for each in node.names):
            return _find(node.module, name)
    raise ValueError(f"{module} has no {name}")


def _part(package: str, name: str) -> Iterable[str]:
    """The heading, the signature and the docstring of a public name."""
    found = _find(package, name)
    yield f"### {package}.{name}"
    yield block([_signature(name, found)], "python")
    yield from _docstring(ast.get_docstring(found.node) or "")


def _signature(name: str, found: Definition) -> str:
    """A signature as it stands in the source, on one line if it fits; of a configuration its options."""
    if isinstance(found.node, ast.FunctionDef):
        returned = f" -> {ast.unparse(found.node.returns)}" if found.node.returns else ""
        return _wrapped(name, _each(found), returned)
    return _wrapped(name, _options(found), "") if name.endswith("Config") else f"class {name}"


def _constant(module: ast.Module, name: str) -> ast.expr | None:
    """The value of a constant that a module defines or imports; None if the name is none."""
    for node in module.body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == name:
            return node.value if isinstance(node.value, ast.Constant) else None
        if isinstance(node, ast.ImportFrom) and node.module and any(each.name == name for each in node.names):
            return _constant(_module(node.module), name) if node.module.startswith("red_cli") else None
    return None


def _each(found: Definition) -> list[str]:
    """The arguments of a function, one by one; a default that is a constant by its value."""
    assert isinstance(found.node, ast.FunctionDef)
    given = found.node.args
    plain = [*given.posonlyargs, *given.args]
    defaults = [None] * (len(plain) - len(given.defaults)) + list(given.defaults)
    pairs = list(zip(plain, defaults, strict=True))
    written = [_argument(each, _value(default, found.module)) for each, default in pairs]
    if given.vararg:
        written.append(f"*{_argument(given.vararg, None)}")
    elif given.kwonlyargs:
        written.append("*")
    pairs = list(zip(given.kwonlyargs, given.kw_defaults, strict=True))
    written += [_argument(each, _value(default, found.module)) for each, default in pairs]
    return written + ([f"**{_argument(given.kwarg, None)}"] if given.kwarg else [])


def _value(default: ast.expr | None, module: ast.Module) -> ast.expr | None:
    """A default, of a constant its value."""
    return (_constant(module, default.id) or default) if isinstance(default, ast.Name) else default


def _argument(argument: ast.arg, default: ast.expr | None) -> str:
    """An argument with its type and its default."""
    kind = f": {ast.unparse(argument.annotation)}" if argument.annotation else ""
    if default is None:
        return f"{argument.arg}{kind}"
    equals = " = " if kind else "="
    return f"{argument.arg}{kind}{equals}{_double_quoted(ast.unparse(default))}"


def _options(found: Definition) -> list[str]:
    """The options of a class with fields, such as a configuration: each with its type and default."""
    fields = [node for node in found.node.body if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)]
    return [written for node in fields if (written := _option(node)) is not None]


def _option(node: ast.AnnAssign) -> str | None:
    """One field of a class as an argument; None for one that is not for the user."""
    name, kind = ast.unparse(node.target), _double_quoted(ast.unparse(_without_field(node.annotation)))
    value = node.value
    if isinstance(value, ast.Call):
        given = {each.arg: each.value for each in value.keywords}
        if isinstance(given.get("repr"), ast.Constant):
            return None
        factory = given.get("default_factory")
        value = factory.body if isinstance(factory, ast.Lambda) else given.get("default")
    return f"{name}: {kind}" if value is None else f"{name}: {kind} = {_double_quoted(ast.unparse(value))}"


def _without_field(annotation: ast.expr) -> ast.expr:
    """An annotation whose `Annotated[T, …]` is T."""

    class Plain(ast.NodeTransformer):
        def visit_Subscript(self, node: ast.Subscript) -> ast.AST:
            if isinstance(node.value, ast.Name) and node.value.id == "Annotated" and isinstance(node.slice, ast.Tuple):
                return node.slice.elts[0]
            return self.generic_visit(node)

    plain: ast.expr = Plain().visit(annotation)
    return plain


def _double_quoted(source: str) -> str:
    """Source whose strings have double quotes, as in the code."""
    return re.sub(r"'([^'\"]*)'", r'"\1"', source)


def _wrapped(name: str, arguments: list[str], returned: str) -> str:
    """A signature on one line if it fits, else with a line for each argument."""
    line = f"{name}({', '.join(arguments)}){returned}"
    if len(line) <= _LONGEST_LINE:
        return line
    return "\n".join((f"{name}(", *(f"    {each}," for each in arguments), f"){returned}"))


def _docstring(docstring: str) -> Iterable[str]:
    """The blocks of a docstring: its paragraphs, and a list for each part such as `Args`."""
    plain, *parts = _PARTS.split(inspect.cleandoc(docstring))
    yield from _paragraphs(plain)
    for title, content in zip(parts[::2], parts[1::2], strict=True):
        listed, rest = _dedented(content)
        yield f"**{title.replace('Args', 'Arguments')}**"
        yield "\n".join(_items(listed)) if title in ("Args", "Raises", "Attributes") else text(listed)
        yield from _paragraphs(rest)


def _dedented(content: str) -> tuple[str, str]:
    """The indented lines of a part of a docstring, and the paragraphs after them."""
    lines = content.strip("\n").split("\n")
    end = next((number for number, line in enumerate(lines) if line and not line.startswith(" ")), len(lines))
    return textwrap.dedent("\n".join(lines[:end])), "\n".join(lines[end:])


def _items(listed: str) -> Iterable[str]:
    """The list of `name: meaning` lines; an indented line continues the one before it."""
    items: list[str] = []
    for line in listed.split("\n"):
        if line.startswith(" ") and items:
            items[-1] += f" {line.strip()}"
        elif line.strip():
            items.append(line.strip())
    for item in items:
        name, _, meaning = item.partition(":")
        yield f"- {code(name)}: {text(meaning)}"


def _paragraphs(plain: str) -> Iterable[str]:
    """The paragraphs of a text."""
    return (text(part) for part in plain.split("\n\n") if part.strip())
