from __future__ import annotations

import pytest

from red_cli.compare import comparison as compare_module


@pytest.fixture
def in_process(red, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> list[list[str]]:
    """Runs in this process instead, for speed; the fixture lists the arguments of each."""
    from red_cli.compare.seeds import resuming
    from red_cli.errors import RedError
    from red_cli.recipe.load import load_recipe
    from red_cli.train.loop import train

    ran: list[list[str]] = []

    def run(arguments, on_line):
        ran.append(list(arguments))
        train_, resume, json_, recipe, *keys = arguments
        assert (train_, resume, json_) == ("train", "--resume", "--json")
        try:
            train(resuming(load_recipe(recipe, None, keys)))
        except RedError as error:
            on_line(f"error: {error.message}")
            return error.exit_code, False
        return 0, False

    monkeypatch.setattr(compare_module, "run_red", run)
    return ran
