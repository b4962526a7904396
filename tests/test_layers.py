"""Rooms import only from rooms below them, no modules form an import circle, and files have a sensible size."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from graphlib import TopologicalSorter
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "red_cli"
# from the top down
ROOMS = [
    "cli",
    "api",
    "peft",
    "commands",
    "progress",
    "console",
    "check_screen",
    "plan_and_result_tables",
    "finding_tables",
    "progress_lines",
    "plan_tables",
    "report",
    "compare",
    "benchmarks",
    "train",
    "plan",
    "export",
    "inference",
    "guess",
    "runs",
    "base_model",
    "distributed",
    "tasks",
    "methods",
    "recipe",
    "edit",
    "limits",
    "files",
    "subprocesses",
    "signals",
    "escape",
    "errors",
    "formatting",
    "error_codes",
]
# inside red_cli/tasks, from the top down; those of one level do not import one another
TASKS = [
    ("build", "encoded"),
    ("presets",),
    ("chat",),
    ("labels",),
    ("text",),
    ("base",),
    ("special_texts", "special_tokens"),
    ("data", "special_ids"),
    ("text_metrics",),
]
LONGEST, SHORTEST = 350, 40  # lines
# Folders with one file for each method, task or preset, however little there is to say of it
ONE_FILE_FOR_EACH = ("methods", "recipe/tasks", "tasks/presets")
SHORT = {
    "tasks/build.py": "imports every preset, which no module below may do",
}


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def imported_modules(path: Path, typing_only: bool = True) -> set[str]:
    """Modules of the package that a file imports anywhere; without `typing_only`, those bound at run time."""
    tree = ast.parse(path.read_text())
    skipped = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    names = []
    for node in ast.walk(tree):
        if id(node) in skipped and not typing_only:
            continue
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            inner = [f"{node.module}.{alias.name}" for alias in node.names]
            names += [name if name in MODULES else node.module for name in inner]
    return {name for name in names if name in MODULES}


def upward_imports(folder: Path, levels: Sequence[tuple[str, ...]]) -> dict[str, list[str]]:
    """File -> what it imports at run time from the same folder, but from another place at its level or above."""
    level_of = {name: level for level, names in enumerate(levels) for name in names}
    prefix, upward = f"{module_name(folder)}.", {}
    for path in sorted(folder.rglob("*.py")):
        own = path.relative_to(folder).parts[0].removesuffix(".py")
        if own in ("__init__", "__main__"):
            continue
        assert own in level_of, f"{path}: {own} has no level"
        modules = [name for name in imported_modules(path, typing_only=False) if name.startswith(prefix)]
        imported = {name.removeprefix(prefix).split(".")[0] for name in modules} - {own}
        if above := {name for name in imported if level_of[name] <= level_of[own]}:
            upward[str(path.relative_to(PACKAGE))] = sorted(above)
    return upward


def test_imports_point_down() -> None:
    assert not upward_imports(PACKAGE, [(room,) for room in ROOMS])


def test_imports_inside_tasks_point_down() -> None:
    assert not upward_imports(PACKAGE / "tasks", TASKS)


def test_no_modules_import_one_another() -> None:
    """Not in a circle of any length, and not for type checking either."""
    graph = {name: imported_modules(path) - {name, "red_cli"} for name, path in MODULES.items() if name != "red_cli"}
    TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle


def lengths() -> dict[str, int]:
    return {str(path.relative_to(PACKAGE)): len(path.read_text().splitlines()) for path in MODULES.values()}


def test_no_file_is_too_long() -> None:
    assert not {path: length for path, length in lengths().items() if length > LONGEST}


def test_no_file_is_a_fragment() -> None:
    short = {
        path: length
        for path, length in lengths().items()
        if length < SHORTEST
        and Path(path).name not in ("__init__.py", "__main__.py")
        and str(Path(path).parent) not in ONE_FILE_FOR_EACH
    }
    assert short.keys() == SHORT.keys(), short
