"""Variables and `~` in paths: replaced where the user names the recipe, never in a folder that is opened."""

from __future__ import annotations

from pathlib import Path

import pytest

from red_cli.commands.expand_paths import with_expanded_paths
from red_cli.errors import UserError
from red_cli.recipe.load import load_recipe, load_recorded_recipe
from tests.failures import fault_at

RECIPE = "task: {{name: classification}}\nmodel: {{name_or_path: '{base}'}}\ndata: {{path: '{data}'}}\n"


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "rows").mkdir()
    (tmp_path / "a$b").mkdir()
    monkeypatch.setenv("PLACE", str(tmp_path))
    monkeypatch.setenv("NAME", "rows")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("MY_API_KEY", "rows")
    monkeypatch.delenv("NOTHING", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(place: Path, base: str = "org/base", data: str = "rows") -> str:
    (place / "mine.yaml").write_text(RECIPE.format(base=base, data=data))
    return str(place / "mine.yaml")


@pytest.mark.parametrize("data", ["$PLACE/rows", "${PLACE}/$NAME", "~/rows", "./$NAME", "~/${NAME}"])
def test_paths_are_expanded(place: Path, data: str) -> None:
    expected = str(place / "rows")
    assert load_recipe(write(place, data=data)).recipe.data.path == expected
    assert load_recipe(write(place), None, [f"data.path={data}", "output.dir=$PLACE/x"]).recipe.data.path == expected
    assert load_recipe(write(place), None, [f"output.dir={data}"]).run_folder.resolve() == Path(expected)


def test_a_path_that_exists_stays_as_written(place: Path) -> None:
    assert load_recipe(write(place, data="a$b")).recipe.data.path == str(place / "a$b")


@pytest.mark.parametrize(
    ("key", "value", "fact"),
    [("data.path", "$NOTHING/rows", "NOTHING is not set"), ("data.path", "./$MY_API_KEY", "MY_API_KEY"),
     ("model.name_or_path", "org/$NAME", "names on the Hub"), ("model.name_or_path", "$NAME", "names on the Hub"),
     ("data.train", "$NOTHING", "NOTHING is not set"), ("output.dir", "$NOTHING", "NOTHING is not set")],
)  # fmt: skip
def test_a_variable_is_refused(place: Path, key: str, value: str, fact: str) -> None:
    with pytest.raises(UserError) as caught:
        load_recipe(write(place), None, [f"{key}={value}"])
    assert fact in fault_at(caught.value, key)["message"]


def test_a_fault_names_the_line_also_in_a_variant(place: Path) -> None:
    path = Path(write(place, data="$NOTHING/rows"))
    path.write_text(f"{path.read_text()}variants:\n  other:\n    data: {{path: $NOTHING/x}}\n")
    with pytest.raises(UserError) as caught:
        load_recipe(str(path))
    assert {fault["where"].rpartition(" ")[2] for fault in caught.value.faults} == {"3", "6"}


@pytest.mark.parametrize("text", ["$NAME", "org/$MY_API_KEY", "./$NOTHING", "$PLACE/rows"])
def test_an_opened_folder_reads_no_variable(place: Path, text: str) -> None:
    path = Path(write(place, base=text, data=text))
    recorded = place / "run" / "recipe.yaml"
    recorded.parent.mkdir()
    recorded.write_text(path.read_text())
    (recorded.parent / "environment.json").write_text("{}")
    assert "$" in str(load_recipe(str(recorded)).recipe.model.name_or_path)  # also where it is trained
    recipe = load_recorded_recipe(path).recipe
    for value in (recipe.model.name_or_path, recipe.data.path):
        assert value is not None
        assert value.endswith(text.removeprefix("./"))


def test_options_are_expanded(place: Path) -> None:
    seen: dict[str, object] = {}
    command = with_expanded_paths(lambda **values: seen.update(values))
    command(output=Path("~/x"), folders=[Path("$PLACE/y")], recipe="$PLACE/z.yaml", system="$5 for ~/you", limit=3)
    assert seen == {"output": place / "x", "folders": [place / "y"], "recipe": f"{place}/z.yaml",
                    "system": "$5 for ~/you", "limit": 3}  # fmt: skip


@pytest.mark.parametrize(
    ("written", "trackers"),
    [("none", []), ("None", []), ("null", []), ("[]", []), ("[none]", []), ("", []), ("tensorboard", ["tensorboard"]),
     ("'tensorboard, wandb'", ["tensorboard", "wandb"]), ("[tensorboard]", ["tensorboard"])],
)  # fmt: skip
def test_trackers(place: Path, written: str, trackers: list[str]) -> None:
    assert load_recipe(write(place), None, [f"train.report_to={written}"]).recipe.train.report_to == trackers
