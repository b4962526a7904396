"""Chat with a trained model, and with its untuned base."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase, TextStreamer

from red_cli.distributed.device import chosen_device, set_device
from red_cli.distributed.process_group import Processes
from red_cli.edit.attach import activate
from red_cli.edit.attached_adapters import require_attachment
from red_cli.errors import UserError
from red_cli.inference.generate import eval_mode, generation_config
from red_cli.inference.logits_processors import penalties
from red_cli.inference.runtime import Runtime, load_runtime
from red_cli.recipe.sections import Decoding
from red_cli.runs.events import Listener
from red_cli.runs.load_opened import load_task
from red_cli.runs.open_trained import Opened
from red_cli.tasks.chat.messages import Message
from red_cli.tasks.text.encoder import ChatEncoder

_MAX_NEW_TOKENS = 512
_GREETING: Message = {"role": "user", "content": "a"}

Show = Callable[[str], None]  # receives a text piece by piece


@dataclass
class ChatSession:
    """A conversation with one model and its messages."""

    model: ChatModel
    tuned: bool
    system: str | None
    messages: list[Message] = field(default_factory=list)

    def send(self, text: str, show: Show) -> int:
        """Send a message and show the answer. Ctrl-C ends the answer; its beginning stays in the conversation.

        Returns:
            The number of earlier messages dropped so that the conversation fits.

        Raises:
            UserError: the text alone does not fit.
        """
        asked = [*self.messages, {"role": "user", "content": text}]
        dropped = 0
        while (ids := self.model.prompt(self._with_system(asked))) is None:
            if len(asked) == 1:
                raise UserError(
                    "too-long", "the message is longer than the base takes", hint="Shorten it, or lower max_new_tokens."
                )
            asked, dropped = asked[2:], dropped + 2
        answer = self.model.answer(ids, self.tuned, show)
        self.messages = [*asked, {"role": "assistant", "content": answer}] if self.model.encoder.multi_turn else []
        return dropped

    def _with_system(self, messages: list[Message]) -> list[Message]:
        return messages if self.system is None else [{"role": "system", "content": self.system}, *messages]


@dataclass(frozen=True)
class ChatModel:
    """A model that answers.

    Attributes:
        encoder: the encoder of its task.
    """

    runtime: Runtime
    encoder: ChatEncoder
    options: Decoding

    @property
    def max_new_tokens(self) -> int:
        """Most tokens of an answer."""
        return self.options.max_new_tokens or min(_MAX_NEW_TOKENS, max(1, self.runtime.context // 2))

    def prompt(self, messages: list[Message]) -> list[int] | None:
        """The prompt that answers `messages`, as token ids; None if it is too long."""
        ids = self.encoder.chat_ids(messages)
        return ids if len(ids) + self.max_new_tokens <= self.runtime.context else None

    @torch.inference_mode()
    def answer(self, ids: list[int], tuned: bool, show: Show) -> str:
        """Generate the answer of the tuned or untuned model; `show` receives it piece by piece."""
        model = self.runtime.model
        inputs = torch.tensor([ids], device=model.device)
        streamer = _Streamer(self.runtime.tokenizer, show)
        config = generation_config(self.options, self.encoder.special_ids, self.max_new_tokens)
        padding = torch.zeros(1, dtype=torch.long, device=inputs.device)
        against_repetition = penalties(self.options.repetition_penalty, self.options.no_repeat_ngram_size, padding)
        arguments: dict[str, Any] = {
            "input_ids": inputs, "attention_mask": torch.ones_like(inputs), "generation_config": config,
            "logits_processor": against_repetition, "streamer": streamer,
        }  # fmt: skip
        without = contextlib.nullcontext() if tuned else _without_edits(model)
        with eval_mode(model), without, self.runtime.autocast():
            try:
                model.generate(**arguments)
            except KeyboardInterrupt:
                streamer.end()
        return streamer.text.strip()


def open_chat(target: Opened, system: str | None, with_base: bool, listener: Listener) -> list[ChatSession]:
    """Open a conversation with a trained model, and one with its untuned base if `with_base` is set.

    Raises:
        UserError: it does not generate text, its prompts have several columns, or the untuned base is not available.
    """
    task, prepared = load_task(target)
    recipe = target.recipe
    encoder = task.bind(prepared, None)
    if not isinstance(encoder, ChatEncoder) or task.kind.encoder_decoder:
        raise UserError(
            "not-a-run",
            f"red chat does not support the task {recipe.task.name} of {target.folder}",
            hint="It supports the task instruction, and generation on decoders.",
        )
    if with_base and (target.adapter is None or not recipe.method_spec.edits):
        raise UserError(
            "invalid-option",
            f"--base: the untuned model is not available in {target.folder}",
            hint="--base needs a run folder or an adapter folder of method red.",
        )
    if system is not None and not encoder.multi_turn:
        raise UserError("invalid-option", "--system: prompts of the task generation have no system message")
    first = [] if system is None else [{"role": "system", "content": system}]
    try:
        encoder.chat_ids([*first, _GREETING])  # refuses what cannot be asked before the model is loaded
    except UserError as error:
        hint = "Where it needs a system message: --system TEXT" if error.code == "invalid-template" else error.hint
        raise UserError(error.code, error.message, hint=hint) from None
    set_device(device := chosen_device())
    runtime = load_runtime(target, prepared, listener, Processes(device=device))
    torch.manual_seed(recipe.train.seed)
    # Beam search decides a text only at its end, so nothing could be shown before.
    options = (recipe.eval.generation or Decoding()).model_copy(update={"num_beams": 1})
    model = ChatModel(runtime, encoder, options)
    return [ChatSession(model, tuned, system) for tuned in ([True, False] if with_base else [True])]


@contextmanager
def _without_edits(model: PreTrainedModel) -> Iterator[None]:
    """Chat with the base: disable the adapter inside the block."""
    active = require_attachment(model).selection.active
    activate(model, None)
    try:
        yield
    finally:
        activate(model, active)


class _Streamer(TextStreamer):
    """Shows a text word by word, without leading spaces."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, show: Show) -> None:
        super().__init__(tokenizer, skip_prompt=True, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        self.show, self.text = show, ""

    def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
        piece = text if self.text else text.lstrip()
        self.text += piece
        if piece:
            self.show(piece)
