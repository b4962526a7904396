"""The commands, the Python and the YAML of README and guides run as they stand there.

`tests/documents/workspaces/<page>.py` prepares the folder of a page: `prepare(folder)` writes the files and the tiny
models that the page names. Its `EXTRA_KEYS` shorten runs. A comment in the page right before a block says that it is
not run (`<!-- not run: REASON -->`) or runs in the slow tests only (`<!-- slow -->`).
"""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from tests.documents.as_a_reader import Failed, run_blocks
from tests.documents.pages import GUIDE, Block, blocks_of, name_of

# Pages whose Python has tests of its own
PYTHON_ELSEWHERE = {"own_loop.md": "tests/test_own_loop.py"}
MOST_NOT_RUN = 3

PAGES = [pytest.param(page, id=name_of(page)) for page in GUIDE]
SLOW_PAGES = [page for page in PAGES if any(block.slow for block in blocks_of(page.values[0].read_text()))]


def runnable(page: Path, slow: bool) -> list[Block]:
    blocks = [block for block in blocks_of(page.read_text()) if slow or not block.slow]
    return [block for block in blocks if not (block.language == "python" and page.name in PYTHON_ELSEWHERE)]


def workspace(page: Path) -> ModuleType | None:
    name = f"tests.documents.workspaces.{page.stem.lower()}"
    return importlib.import_module(name) if importlib.util.find_spec(name) else None


def run_page(page: Path, slow: bool, folder: Path, red) -> None:
    blocks = runnable(page, slow)
    if not any(block.language in ("bash", "python") and not block.not_run for block in blocks):
        return
    module = workspace(page)
    if module:
        module.prepare(folder)
    try:
        run_blocks(name_of(page), blocks, folder, red, getattr(module, "EXTRA_KEYS", {}))
    except Failed as failure:
        pytest.fail(str(failure), pytrace=False)


@pytest.mark.parametrize("page", PAGES)
def test_a_page_runs(page: Path, red, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    if page in [slow.values[0] for slow in SLOW_PAGES] and not request.config.getoption("markexpr"):
        pytest.skip("the slow tests run this page as well")
    run_page(page, False, tmp_path, red)


@pytest.mark.slow
@pytest.mark.parametrize("page", SLOW_PAGES)
def test_a_page_runs_with_its_slow_blocks(page: Path, red, tmp_path: Path) -> None:
    run_page(page, True, tmp_path, red)


@pytest.mark.parametrize("page", PAGES)
def test_few_blocks_are_not_run(page: Path) -> None:
    left_out = [block for block in blocks_of(page.read_text()) if block.not_run]
    for block in left_out:
        print(f"{name_of(page)}:{block.line}: not run: {block.not_run}")
    assert len(left_out) <= MOST_NOT_RUN


TEXT = """
# A page

```yaml
# mine/small.yaml
task: {name: classification}
```

```bash
head -1 mine/small.yaml | grep -q small   # a comment
WORD=four; cd mine
red keys train.seed > keys.txt && grep -q seed keys.txt
red keys no.such.key   # exit code 2
cat keys.txt \\
  | red keys "train.$WORD" | head -1   # exit code 2
```

<!-- not run: it would fail -->
```bash
false
```

<!-- slow -->
```python
seen = open("keys.txt").read()
```

```python
assert "seed" in seen
```
"""


def test_blocks_of_a_page() -> None:
    blocks = blocks_of(TEXT)
    assert [(block.language, block.line, block.slow, block.not_run) for block in blocks] == [
        ("yaml", 5, False, ""),
        ("bash", 10, False, ""),
        ("bash", 20, False, "it would fail"),
        ("python", 25, True, ""),
        ("python", 29, False, ""),
    ]


def test_a_page_is_run_as_it_stands(red, tmp_path: Path) -> None:
    run_blocks("page.md", blocks_of(TEXT), tmp_path, red, {})
    assert (tmp_path / "mine" / "keys.txt").is_file()


@pytest.mark.parametrize(
    ("old", "new", "line", "command"),
    [
        ("red keys train.seed ", "red kys train.seed ", 12, "red kys train.seed"),
        ("red keys no.such.key   # exit code 2", "red keys train.seed   # exit code 2", 13, "red keys train.seed"),
        ("# a comment", "; false", 10, "false"),
        ('"seed" in seen', '"weed" in seen', 29, 'assert "weed" in seen'),
        ("head -1   # exit code 2", "head -1   # exit code 0", 15, "red keys train.four"),
    ],
)
def test_a_fault_of_a_page_is_shown(red, tmp_path: Path, old: str, new: str, line: int, command: str) -> None:
    with pytest.raises(Failed) as caught:
        run_blocks("page.md", blocks_of(TEXT.replace(old, new)), tmp_path, red, {})
    assert str(caught.value).startswith(f"page.md:{line}: {command}\nexit code ")


def test_keys_are_added_to_the_commands_that_begin_so(red, tmp_path: Path) -> None:
    block = Block("bash", "red keys > keys.txt\nred schema > schema.json\n", 1)
    run_blocks("page.md", [block], tmp_path, red, {"keys": ["train.seed"], "sch": ["no.such.key"]})
    assert len((tmp_path / "keys.txt").read_text()) < 1000


def test_a_workspace_belongs_to_a_page() -> None:
    stems = {page.stem.lower() for page in GUIDE}
    modules = {path.stem for path in (Path(__file__).parent / "workspaces").glob("*.py")}
    assert modules - {"__init__"} <= stems
