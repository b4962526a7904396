"""Shell completion of recipes, recipe keys and run folders."""

from __future__ import annotations

from pathlib import Path

_RUNS = "runs"  # the folder of runs by default
_MOST_LISTED = 200  # folders that are looked at


def complete_recipe(incomplete: str) -> list[tuple[str, str]]:
    """Names of bundled recipes with their titles, and YAML files."""
    from red_cli.recipe.bundled_recipes import recipe_folder, recipe_names, recipe_title

    names = [name for name in recipe_names() if name.startswith(incomplete)]
    bundled = [(name, recipe_title(recipe_folder() / f"{name}.yaml")) for name in names]
    return [*bundled, *((path, "") for path in _entries(incomplete) if path.endswith((".yaml", ".yml", "/")))]


def complete_key(incomplete: str) -> list[tuple[str, str]]:
    """Recipe keys with their meaning."""
    from red_cli.recipe.explain import key_helps

    return [(path, found.description) for path, found in key_helps().items() if path.startswith(incomplete)]


def complete_override(incomplete: str) -> list[tuple[str, str]]:
    """`KEY=` of recipe keys; for the last one that fits, `KEY=VALUE` with its choices or its default.

    Several forms of one key keep a shell from adding a space after the equals sign.
    """
    from red_cli.recipe.explain import key_helps

    key = incomplete.partition("=")[0]
    helps = {path: found for path, found in key_helps().items() if found.type != "section"}
    fitting = [path for path in helps if path == key or ("=" not in incomplete and path.startswith(key))]
    if len(fitting) != 1:
        return [(f"{path}=", helps[path].description) for path in fitting]
    [found] = (helps[path] for path in fitting)
    values = found.choices or ("", found.default or "...")
    written = dict.fromkeys(value.replace(" ", "") for value in values)
    return [(f"{found.key}={value}", found.description) for value in written]


def complete_run(incomplete: str) -> list[tuple[str, str]]:
    """Folders of runs, adapters and exported models: those in runs/, or below what is typed."""
    from red_cli.runs.folder_kind import folder_kind

    nested = [] if incomplete else [f"{path}" for path in _entries(f"{_RUNS}/") if path.endswith("/")]
    folders = [path for path in (*nested, *_entries(incomplete)) if path.endswith("/")]
    return [(path.removesuffix("/") if (kind := folder_kind(Path(path))) else path, kind or "") for path in folders]


def _entries(incomplete: str) -> list[str]:
    """Files and folders that begin with what is typed; folders end with a slash, hidden ones are left out."""
    folder, _, name = incomplete.rpartition("/")
    place = Path(folder or ("/" if incomplete.startswith("/") else "."))
    prefix = incomplete[: len(incomplete) - len(name)]
    try:
        found = sorted(path for path in place.iterdir() if path.name.startswith(name) and path.name[0] != ".")
        return [f"{prefix}{path.name}{'/' if path.is_dir() else ''}" for path in found[:_MOST_LISTED]]
    except OSError:  # no such folder
        return []
