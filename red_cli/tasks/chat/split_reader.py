"""The rows of a split as tokenised conversations, with the faults of those that cannot be used."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from red_cli.errors import UserError, one_line
from red_cli.formatting import number_of
from red_cli.recipe.sections import Columns
from red_cli.tasks.chat.adapted import adapted
from red_cli.tasks.chat.chat_template import ChatTemplate, TemplateFault
from red_cli.tasks.chat.conversations import Conversation, read_conversations, unread_columns
from red_cli.tasks.chat.messages import BadRow, Observed
from red_cli.tasks.chat.rendered_turns import RenderedTurns, rendered_turns
from red_cli.tasks.chat.turn_tokens import TokenizedChat, TurnTokenizer
from red_cli.tasks.data.bad_rows import Fault
from red_cli.tasks.data.rows import Rows
from red_cli.tasks.special_ids import text_without_special_ids
from red_cli.tasks.special_texts import Marks

_CHUNK = 1000  # rows
_SHOWN_ROWS = 5
_UNANSWERED = Fault(
    "a conversation that does not end with the assistant",
    "the conversation ends with the user, or with a tool",
    "Drop its last message; in a split to be answered, every row ends so.",
)

Example = tuple[int, TokenizedChat, str, str]  # row, tokens, the prompt of the last answer, the last answer


@dataclass
class SplitReader:
    """Reads a split chunk by chunk.

    Attributes:
        marks: what the template adds to turns, which their own texts then need not carry.
        answered: whether conversations end with the assistant; it is the same for all that can be used.
        faults: index of a row -> why it cannot be used.
        template_faults: those that the template is the reason of.
        observed: what the messages have besides role and content.
        developers: number of conversations whose developer's messages became system messages.
        rewritten: number of conversations that became several examples, and of these.
        thoughts: number of examples that begin inside a thought that the generation prompt opens.
    """

    template: ChatTemplate
    marks: Marks
    rows: Rows
    columns: Columns
    answered: bool = False
    faults: dict[int, Fault] = field(default_factory=dict)
    template_faults: dict[int, TemplateFault] = field(default_factory=dict)
    observed: Observed = field(default_factory=Observed)
    developers: int = 0
    rewritten: tuple[int, int] = (0, 0)
    thoughts: int = 0

    def chunks(self) -> Iterator[list[Example]]:
        """The examples of the split.

        Raises:
            UserError: a column is missing, or the template does not end.
        """
        tokenizer = TurnTokenizer.of(self.template)
        unanswered: list[int] = []
        held: list[list[Example]] = []  # examples of prompts alone, until it is known that no row has an answer
        for start in range(0, self.rows.table.num_rows, _CHUNK):
            read = self._read(slice(start, start + _CHUNK))
            usable: list[tuple[int, Conversation]] = []
            for row, each in enumerate(read, start):
                if isinstance(each, Fault):
                    self.faults[row] = each
                elif each.answered:
                    usable.append((row, each))
                else:
                    unanswered.append(row)
            if usable and not self.answered:
                self.answered, held = True, []
            if self.answered:
                yield self._examples(usable, tokenizer)
            else:
                asked = [(row, each) for row, each in enumerate(read, start) if isinstance(each, Conversation)]
                held.append(self._prompts(asked, tokenizer))
        if self.answered:
            self.faults |= dict.fromkeys(unanswered, _UNANSWERED)
        yield from held

    def _read(self, part: slice) -> list[Conversation | Fault]:
        """The conversations of a part of the rows, without what the template adds, or why a row has none."""
        read = read_conversations(self.rows, self.columns, part, self.observed)
        return [
            each if isinstance(each, Fault) else replace(each, messages=self.marks.messages(each.messages))
            for each in read
        ]

    def notes(self) -> list[str]:
        """What was changed or not read, a line each."""
        source, template, observed = self.rows.source, self.template, self.observed
        names = template.names_read
        unread = {
            "columns": unread_columns(self.rows, self.columns),
            "keys of messages": sorted(observed.keys - names),
            "template variables": sorted(observed.variables - names),
        }
        listed = "; ".join(f"{what} {', '.join(map(one_line, given))}" for what, given in unread.items() if given)
        roles = ", ".join(f"{one_line(name)} as {role}" for name, role in sorted(observed.roles.items()))
        texts, chats = self.rewritten
        notes = {
            f"not read: {listed}": listed,
            f"roles: {roles}": roles,
            f"{source}: not counted towards the loss by their own keys: {number_of(observed.skipped, 'turn')}": (
                observed.skipped
            ),
            f"{source}: {template.name} takes no developer's messages; they are system messages in "
            f"{number_of(self.developers, 'conversation')}": self.developers,
            f"{source}: {template.name} rewrites earlier turns when others follow; {number_of(chats, 'conversation')} "
            f"became {texts:,} rows, so that each answer follows what a model then sees": chats,
            f"{source}: the generation prompt of {template.name} opens a thought that a rendered turn has not; the "
            f"row's own thought follows it in {number_of(self.thoughts, 'answer')}": self.thoughts,
        }
        return [note for note, counts in notes.items() if counts]

    def left_out(self) -> dict[str, int]:
        """Reason, with the numbers of its first rows -> number of rows that cannot be used."""
        found: dict[str, list[int]] = {}
        for row in sorted(self.faults):
            found.setdefault(self.faults[row].reason, []).append(row)
        return {f"{reason} ({self.rows.first_numbers(indices)})": len(indices) for reason, indices in found.items()}

    def _examples(self, conversations: list[tuple[int, Conversation]], tokenizer: TurnTokenizer) -> list[Example]:
        """Examples of conversations that end with the assistant."""
        taken = self._adapted(conversations)
        rendered: list[tuple[int, RenderedTurns]] = []
        texts = rendered_turns(self.template, [each for _, each in taken])
        for (row, _), found in zip(taken, texts, strict=True):
            if isinstance(found, BadRow):
                self.faults[row] = found.fault
            elif isinstance(found, TemplateFault):
                self._fail(row, found)
            else:
                self.thoughts += sum(text.thought for text in found)
                if len(found) > 1:
                    self.rewritten = (self.rewritten[0] + len(found), self.rewritten[1] + 1)
                rendered += [(row, text) for text in found]
        examples: list[Example] = []
        for (row, text), chat in zip(rendered, tokenizer.encode([text for _, text in rendered]), strict=True):
            if isinstance(chat, TemplateFault):
                self._fail(row, chat)
            else:
                examples.append((row, chat, text.prompt, self._answer(text, chat)))
        return [example for example in examples if example[0] not in self.faults]

    def _adapted(self, conversations: list[tuple[int, Conversation]]) -> list[tuple[int, Conversation]]:
        """The conversations as the template takes them; those that it does not take are faults."""
        taken = []
        for row, conversation in conversations:
            try:
                adapted_one, renamed = adapted(self.template, conversation)
            except TemplateFault as fault:
                self._fail(row, fault)
                continue
            self.developers += renamed
            taken.append((row, adapted_one))
        return taken

    def _prompts(self, conversations: list[tuple[int, Conversation]], tokenizer: TurnTokenizer) -> list[Example]:
        """Examples of conversations that are to be answered."""
        prompts: list[tuple[int, str]] = []
        for row, conversation in self._adapted(conversations):
            try:
                prompts.append((row, self.template.render(conversation, ask=True)))
            except TemplateFault as fault:
                self._fail(row, fault)
        ids = tokenizer.ids([prompt for _, prompt in prompts])
        return [(row, TokenizedChat(part, []), prompt, "") for (row, prompt), part in zip(prompts, ids, strict=True)]

    def _answer(self, text: RenderedTurns, chat: TokenizedChat) -> str:
        """The text that a model is to generate: the answer's content, or what the template makes of the message."""
        content = str(text.last["content"])
        if text.text[len(text.prompt) :].lstrip().startswith(content.strip()) and content.strip():
            return content
        if text.marked:
            return content
        start, stop = chat.turns[-1]
        return text_without_special_ids(self.template.tokenizer, chat.ids[start:stop])

    def _fail(self, row: int, fault: TemplateFault) -> None:
        """Record a row that the template does not fit; raises if it takes too long, as others will."""
        if fault.final:
            where = self.rows.place(row)
            raise UserError(fault.code, f"{where}: {fault.message}", hint=fault.hint)
        self.template_faults[row] = fault
        self.faults[row] = Fault(fault.reason, fault.message, fault.hint)
