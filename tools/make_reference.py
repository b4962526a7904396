"""Write the generated pages of docs/reference, or check that they are up to date.

python tools/make_reference.py           write the pages
python tools/make_reference.py --check   fail if a page is not what the code makes today
"""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "docs" / "reference"
# Each page is made by the module of the same name in tools/reference
PAGES = ("commands", "keys", "recipes", "metrics", "architectures", "python", "message_codes")


def made(name: str) -> str:
    """The text of a page as the code makes it today."""
    text: str = importlib.import_module(f"reference.{name}").make()
    return text


def stale_pages(names: tuple[str, ...]) -> list[Path]:
    """The pages whose files differ from what the code makes today."""
    files = {name: FOLDER / f"{name}.md" for name in names}
    return [path for name, path in files.items() if not path.is_file() or path.read_text("utf-8") != made(name)]


def main() -> None:
    """Write the pages, or check them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--check", action="store_true", help="fail if a page is not up to date")
    if parser.parse_args().check:
        if stale := stale_pages(PAGES):
            names = ", ".join(str(path.relative_to(ROOT)) for path in stale)
            sys.exit(f"Not up to date: {names}\nWrite them again: python tools/make_reference.py")
        print(f"{len(PAGES)} pages are up to date.")
        return
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name in PAGES:
        (FOLDER / f"{name}.md").write_text(made(name), encoding="utf-8")
        print(FOLDER / f"{name}.md")


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main()
