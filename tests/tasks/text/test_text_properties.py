"""Properties of any texts: packing, templates and truncation lose nothing that they must keep."""

from __future__ import annotations

from string import Formatter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from red_cli.errors import UserError
from red_cli.recipe.template import checked, fill, template_fields
from red_cli.tasks.chat.chat_template import ChatTemplate
from red_cli.tasks.chat.conversations import Conversation
from red_cli.tasks.special_ids import Affixes
from red_cli.tasks.text.encoder import truncate
from red_cli.tasks.text.packing import pack
from tests.tasks.chat.test_chat_template import encode, loss_mask, own, template_of

LENGTHS = st.lists(st.integers(1, 300), min_size=1, max_size=60)
IDS = st.lists(st.integers(10, 99), max_size=30)
END = 5


@given(LENGTHS, st.data())
def test_packs_hold_every_row_once_and_fit(lengths: list[int], data: st.DataObject) -> None:
    rows = np.array(data.draw(st.permutations(range(len(lengths))))[: data.draw(st.integers(1, len(lengths)))])
    sizes = np.array(lengths)
    packs = pack(rows, sizes)
    assert sorted(np.concatenate(packs)) == sorted(rows)
    totals = [int(sizes[each].sum()) for each in packs]
    assert max(totals) == sizes[rows].max()
    assert all(first + second > sizes[rows].max() for place, first in enumerate(totals) for second in totals[:place])


FRAMES = st.tuples(st.lists(st.integers(0, 4), max_size=2), st.lists(st.integers(0, 4), max_size=2))


@given(IDS.filter(bool), st.none() | IDS, FRAMES, st.integers(0, 70), st.booleans())
def test_what_is_cut_fits(
    prompt: list[int], completion: list[int] | None, around: tuple[list[int], list[int]], spare: int, apart: bool
) -> None:
    before, after = around
    frame = Affixes(before, after)
    limit = len(frame) + 2 + spare
    row = truncate(prompt, completion, frame, END, limit, apart)
    longest = max(len(row.prompt), len(row.completion)) if apart else len(row.prompt) + len(row.completion)
    assert longest <= limit
    kept = row.prompt[len(before) : len(row.prompt) - len(after)]
    assert kept == prompt[len(prompt) - len(kept) :]
    assert len(kept) >= 1
    answer = [] if completion is None else [*(before if apart else []), *completion, END]
    assert row.completion == answer[: len(row.completion)]
    assert row.end_truncated == (row.completion != answer)
    assert row.truncated == (kept != prompt or row.end_truncated)
    whole = len(frame) + len(prompt) + (0 if apart else len(answer))
    assert row.truncated == (whole > limit or (apart and len(answer) > limit))


NAMES = st.text(
    st.characters(exclude_characters="{}.[]!:\0", exclude_categories=("Cs",)), min_size=1, max_size=6
).filter(str.strip)
PLAIN = st.text(st.characters(exclude_categories=("Cs",)), max_size=6)


@given(st.lists(st.tuples(PLAIN, NAMES, st.text(max_size=6)), min_size=1, max_size=5), PLAIN)
def test_a_template_takes_values_as_they_are(parts: list[tuple[str, str, str]], last: str) -> None:
    def escaped(text: str) -> str:
        return text.replace("{", "{{").replace("}", "}}")

    values = {name: value for _, name, value in parts}
    template = "".join(f"{escaped(text)}{{{name}}}" for text, name, _ in parts) + escaped(last)
    assert checked(template) == template
    assert template_fields(template) == list(dict.fromkeys(name for _, name, _ in parts))
    assert fill(template, values) == "".join(text + values[name] for text, name, _ in parts) + last


@given(st.text("{}ab!:.[ ", max_size=12))
def test_any_text_is_a_template_or_refused(text: str) -> None:
    try:
        checked(text)
    except ValueError:
        return
    names = [name for _, name, _, _ in Formatter().parse(text) if name is not None]
    assert fill(text, dict.fromkeys(names, "x")) == text.format_map(dict.fromkeys(names, "x"))


TURNS = st.lists(st.text(min_size=1, max_size=8).filter(str.strip), min_size=2, max_size=6).map(
    lambda texts: texts[: len(texts) // 2 * 2]
)


@pytest.fixture(scope="module")
def chats() -> list[ChatTemplate]:
    return [template_of(own("llama3")), template_of(own("qwen2.5")), template_of(own("mistral"), "alpaca")]


@given(texts=TURNS)
def test_a_conversation_is_learnt_where_the_assistant_speaks(chats: list[ChatTemplate], texts: list[str]) -> None:
    """The tokens are those of the complete text, and each answer ends with the end token; or it is refused."""
    roles = ("user", "assistant")
    talk = [{"role": roles[place % 2], "content": text} for place, text in enumerate(texts)]
    for chat in chats:
        try:
            turns = encode(chat, talk)
        except UserError:
            continue
        mask = loss_mask(turns)
        assert chat.tokenizer.decode(turns.ids) == chat.render(Conversation(talk), ask=False)
        assert all(not counts for counts in mask[: turns.prompt_length])
        ends = [place for place, counts in enumerate(mask) if counts and not [*mask, False][place + 1]]
        assert len(ends) == len(talk) // 2
        assert all(turns.ids[place] == chat.end for place in ends)
