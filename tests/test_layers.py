"""A room imports only from rooms below it."""

from __future__ import annotations

import ast
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "red_cli"
# from the top down
ROOMS = [
    "cli",
    "api",
    "commands",
    "console",
    "tables",
    "report",
    "compare",
    "benchmarks",
    "train",
    "plan",
    "export",
    "inference",
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
    "escape",
    "formatting",
    "errors",
    "error_codes",
]
# inside red_cli/tasks, from the top down
TASKS = ["build", "presets", "chat", "labels", "text", "base", "special_ids", "data", "text_metrics"]


def room_of(module: str) -> str:
    return module.split(".")[1]


def imported_rooms(path: Path) -> set[str]:
    """Rooms imported at run time."""
    return {room_of(name) for name in imported_modules(path) if name != "red_cli.__version__"}


def imported_modules(path: Path) -> set[str]:
    """Modules imported at run time (imports for type checking alone do not bind)."""
    tree = ast.parse(path.read_text())
    typing_only = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    return {
        f"{node.module}.{alias.name}" if node.module == "red_cli" else node.module
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        and (node.module or "").startswith("red_cli")
        and id(node) not in typing_only
        for alias in node.names
    }


def test_imports_point_down() -> None:
    upward = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        if own in ("__init__", "__main__"):
            continue
        assert own in ROOMS, f"{path}: no room is called {own}"
        if above := imported_rooms(path) - set(ROOMS[ROOMS.index(own) :]):
            upward[str(path.relative_to(PACKAGE))] = sorted(above)
    assert not upward


def test_imports_inside_tasks_point_down() -> None:
    upward = {}
    for path in sorted((PACKAGE / "tasks").rglob("*.py")):
        own = path.relative_to(PACKAGE / "tasks").parts[0].removesuffix(".py")
        if own == "__init__":
            continue
        imported = {name.split(".")[2] for name in imported_modules(path) if name.startswith("red_cli.tasks.")}
        if above := imported - set(TASKS[TASKS.index(own) :]):
            upward[str(path.relative_to(PACKAGE))] = sorted(above)
    assert not upward


def test_no_file_is_too_long() -> None:
    lengths = {str(path.relative_to(PACKAGE)): len(path.read_text().splitlines()) for path in PACKAGE.rglob("*.py")}
    assert not {path: length for path, length in lengths.items() if length > 350}
