"""What PEFT does without the registration, and what the registration does where PEFT has changed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from types import SimpleNamespace

import pytest

from tests.extras import has_extra
from tests.failures import fails
from tests.peft.conftest import Row

if has_extra("baselines"):
    from peft import AutoPeftModelForCausalLM, PeftConfig, PeftModel
    from peft.utils.peft_types import PeftType

    from red_cli.peft import RedConfig, RedModel, registration


@pytest.fixture
def row(make_row: Callable[[str], Row]) -> Row:
    return make_row("llama")


@pytest.mark.usefixtures("unregistered")
def test_without_registration_peft_refuses_the_folder(row: Row) -> None:
    for load in (
        lambda: PeftModel.from_pretrained(row.load(), str(row.adapter)),
        lambda: AutoPeftModelForCausalLM.from_pretrained(str(row.adapter)),
        lambda: row.load().load_adapter(str(row.adapter)),
        lambda: row.kind.from_pretrained(row.adapter),
    ):
        with pytest.raises(KeyError, match="'RED'"):
            load()


def test_the_type_is_a_member_like_any_other() -> None:
    member = registration.red_type()
    assert member is PeftType.RED is PeftType("RED") is PeftType["RED"]
    assert (member, str(member.value), repr(member)) == ("RED", "RED", "<PeftType.RED: 'RED'>")
    assert [*PeftType].count(member) == 1
    assert registration.red_type() is member  # registered once


def test_the_folder_has_our_configuration(row: Row) -> None:
    config = PeftConfig.from_pretrained(str(row.adapter))
    assert isinstance(config, RedConfig)
    assert config.peft_type is PeftType.RED


def test_an_old_peft_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registration.peft, "__version__", "0.19.1")
    with fails("version-too-old", "0.19.1", "0.20"):
        registration.red_type()


def test_an_enum_that_takes_no_member_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registration, "PeftType", SimpleNamespace(__members__={}, __len__=lambda: 0))
    with fails("unsupported-method", "cannot be registered"):
        registration.red_type()


def test_a_type_of_peft_of_this_name_is_named() -> None:
    """As when PEFT has a tuner RED of its own."""
    with fails("unsupported-method", "already"):
        registration.register(RedConfig, RedModel)


def test_red_alone_imports_no_peft() -> None:
    code = "import sys, red_cli; print({'peft', 'torch'} & {*sys.modules})"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"
