"""Loss masks of conversations: the chat templates of Llama-3, Qwen2.5 and Mistral, and the named templates."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from red_cli.errors import UserError
from red_cli.recipe.tasks.base import TemplateChoice
from red_cli.tasks.chat.chat_template import ChatTemplate, TemplateFault
from red_cli.tasks.chat.conversations import Conversation
from red_cli.tasks.chat.rendered_turns import rendered_turns
from red_cli.tasks.chat.turn_tokens import TokenizedChat, TurnTokenizer

TEMPLATES = Path(__file__).resolve().parents[2] / "data" / "chat_templates"
LLAMA3 = ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
QWEN = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
MISTRAL = ["<s>", "</s>", "[INST]", "[/INST]"]
TALK = [
    {"role": "user", "content": "One?"},
    {"role": "assistant", "content": "1, said once."},
    {"role": "user", "content": "Two?"},
    {"role": "assistant", "content": "2"},
]
SYSTEM = {"role": "system", "content": "Count."}
INSTRUCTION = {"role": "user", "content": "Add.", "input": "1 2"}


def bytes_tokenizer(
    special: list[str], template: str | None = None, merges: tuple[tuple[str, str], ...] = (), **names: str
) -> PreTrainedTokenizerFast:
    """A tokenizer with a token for every byte, merged pair and special token."""
    characters = [*sorted(pre_tokenizers.ByteLevel.alphabet()), *("".join(pair) for pair in merges)]
    tokenizer = Tokenizer(models.BPE({text: place for place, text in enumerate(characters)}, list(merges)))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    made = PreTrainedTokenizerFast(tokenizer_object=tokenizer, additional_special_tokens=special, **names)
    made.chat_template = template
    return made


def own(name: str) -> PreTrainedTokenizerFast:
    text = (TEMPLATES / f"{name}.jinja").read_text().removesuffix("\n")
    if name == "llama3":
        return bytes_tokenizer(LLAMA3, text, bos_token=LLAMA3[0], eos_token=LLAMA3[1])
    if name == "qwen2.5":
        return bytes_tokenizer(QWEN, text, eos_token=QWEN[2], pad_token=QWEN[0])
    return bytes_tokenizer(MISTRAL, text, bos_token="<s>", eos_token="</s>")


def template_of(tokenizer: PreTrainedTokenizerFast, template: str = "own") -> ChatTemplate:
    return ChatTemplate.of(TemplateChoice(template, {}), tokenizer)


def encode(chat: ChatTemplate, conversation: list[dict]) -> TokenizedChat:
    """A conversation that is one text, as token ids."""
    (found,) = rendered_turns(chat, [Conversation(conversation)])
    if isinstance(found, Exception):
        raise found
    (encoded,) = TurnTokenizer.of(chat).encode(found)
    if isinstance(encoded, TemplateFault):
        raise encoded
    return encoded


def loss_mask(chat: TokenizedChat) -> list[bool]:
    """Which tokens count towards the loss."""
    return [any(start <= place < stop for start, stop in chat.turns) for place in range(len(chat.ids))]


def prompt_of(chat: ChatTemplate, conversation: list[dict]) -> list[int]:
    """The token ids that the answer to a conversation is generated from."""
    return chat.tokenizer(chat.prompts([Conversation(conversation)])[0], add_special_tokens=False)["input_ids"]


def parts(chat: ChatTemplate, conversation: list[dict]) -> list[tuple[bool, str]]:
    """The conversation's text in parts: (counts towards the loss, text)."""
    turns = encode(chat, conversation)
    runs: list[tuple[bool, list[int]]] = []
    for token, counts in zip(turns.ids, loss_mask(turns), strict=True):
        if not runs or runs[-1][0] != counts:
            runs.append((counts, []))
        runs[-1][1].append(token)
    return [(counts, chat.tokenizer.decode(ids)) for counts, ids in runs]


def header(role: str) -> str:
    return f"<|start_header_id|>{role}<|end_header_id|>\n\n"


QWEN_SYSTEM = "<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\n"
ALPACA = (
    "Below is an instruction that describes a task{}. Write a response that appropriately completes the request.\n\n"
)
WITH_INPUT = ", paired with an input that provides further context"
# name: (tokenizer, template, conversation, the parts of its text; every second counts towards the loss)
CASES = {
    "llama3, two turns": (
        "llama3", "own", TALK,
        ["<|begin_of_text|>" + header("user") + "One?<|eot_id|>" + header("assistant"), "1, said once.<|eot_id|>",
         header("user") + "Two?<|eot_id|>" + header("assistant"), "2<|eot_id|>"],
    ),
    "llama3, system": (
        "llama3", "own", [SYSTEM, *TALK[:2]],
        ["<|begin_of_text|>" + header("system") + "Count.<|eot_id|>" + header("user") + "One?<|eot_id|>"
         + header("assistant"), "1, said once.<|eot_id|>"],
    ),
    "qwen2.5, two turns": (
        "qwen2.5", "own", TALK,
        [QWEN_SYSTEM + "<|im_start|>user\nOne?<|im_end|>\n<|im_start|>assistant\n", "1, said once.<|im_end|>",
         "\n<|im_start|>user\nTwo?<|im_end|>\n<|im_start|>assistant\n", "2<|im_end|>", "\n"],
    ),
    "qwen2.5, system": (
        "qwen2.5", "own", [SYSTEM, *TALK[:2]],
        ["<|im_start|>system\nCount.<|im_end|>\n<|im_start|>user\nOne?<|im_end|>\n<|im_start|>assistant\n",
         "1, said once.<|im_end|>", "\n"],
    ),
    "mistral, two turns": (
        "mistral", "own", TALK,
        ["<s>[INST] One?[/INST]", " 1, said once.</s>", "[INST] Two?[/INST]", " 2</s>"],
    ),
    "an answer with the end's text inside": (
        "qwen2.5", "own", [TALK[0], {"role": "assistant", "content": "<|im_end|> it is"}],
        [QWEN_SYSTEM + "<|im_start|>user\nOne?<|im_end|>\n<|im_start|>assistant\n", "<|im_end|> it is<|im_end|>", "\n"],
    ),
    "human-assistant": (
        "llama3", "human-assistant", TALK,
        ["Human: One?\n\nAssistant:", " 1, said once.<|end_of_text|>", "\n\nHuman: Two?\n\nAssistant:",
         " 2<|end_of_text|>"],
    ),
    "human-assistant, input": (
        "mistral", "human-assistant", [INSTRUCTION, TALK[3]],
        ["Human: Add.\n\n1 2\n\nAssistant:", " 2</s>"],
    ),
    "alpaca": (
        "mistral", "alpaca", TALK[:2],
        [ALPACA.format("") + "### Instruction:\nOne?\n\n### Response:", "1, said once.</s>"],
    ),
    "alpaca, input": (
        "mistral", "alpaca", [INSTRUCTION, TALK[3]],
        [ALPACA.format(WITH_INPUT) + "### Instruction:\nAdd.\n\n### Input:\n1 2\n\n### Response:", "2</s>"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_what_is_learnt(case: str) -> None:
    tokenizer, template, conversation, expected = CASES[case]
    chat = template_of(own(tokenizer), template)
    assert parts(chat, conversation) == [(place % 2 == 1, text) for place, text in enumerate(expected)]
    ends = {"llama3": "<|eot_id|>", "qwen2.5": "<|im_end|>", "mistral": "</s>"}
    end = ends[tokenizer] if template == "own" else chat.tokenizer.eos_token
    assert chat.end == chat.tokenizer.convert_tokens_to_ids(end)


@pytest.mark.parametrize("case", [case for case in CASES if "input" not in case])
def test_a_prompt_has_the_tokens_that_were_given_in_training(case: str) -> None:
    tokenizer, template, conversation, _ = CASES[case]
    chat = template_of(own(tokenizer), template)
    turns = encode(chat, conversation)
    for place, message in enumerate(conversation):
        if message["role"] == "assistant":
            prompt = prompt_of(chat, conversation[:place])
            assert turns.ids[: len(prompt)] == prompt
            assert loss_mask(turns)[len(prompt)]
            assert not loss_mask(turns)[len(prompt) - 1]


def test_a_token_across_the_beginning_of_an_answer_is_cut_there() -> None:
    """The prompt ends with a line break and the answer begins with one: as running text they are one token."""
    end = "('\n' if message.role == 'user' else '</s>')"
    template = "{% for message in messages %}{{ message.content + " + end + " }}{% endfor %}"
    tokenizer = bytes_tokenizer(["</s>"], template, merges=(("Ċ", "Ċ"),), eos_token="</s>")
    assert len(tokenizer("\n\n")["input_ids"]) == 1
    chat = template_of(tokenizer)
    conversation = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "\nb"}]
    turns = encode(chat, conversation)
    assert turns.ids[: turns.prompt_length] == prompt_of(chat, conversation[:1])
    assert tokenizer.decode(turns.ids) == "a\n\nb</s>"
    assert sum(loss_mask(turns)) == 3


def test_a_named_template_begins_as_the_tokenizer_does() -> None:
    """The BOS token occurs once if the tokenizer adds it, and not at all otherwise."""
    tokenizer = own("mistral")
    assert parts(template_of(tokenizer, "human-assistant"), TALK[:2])[0][1].startswith("Human:")
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", tokenizer.bos_token_id)]
    )
    chat = template_of(tokenizer, "human-assistant")
    assert parts(chat, TALK[:2])[0][1] == "<s>Human: One?\n\nAssistant:"
    assert encode(chat, TALK[:2]).ids.count(tokenizer.bos_token_id) == 1


@pytest.mark.parametrize(
    "expression",
    ["1 / 0", "2.0 ** 100000", "messages[99].content", "nothing.at.all", "messages | sum", "'x' * 'y'"],
)  # fmt: skip
def test_whatever_fails_inside_a_template_is_named(expression: str) -> None:
    end = "{% for message in messages %}{{ message.content + '</s>' }}{% endfor %}"
    tokenizer = bytes_tokenizer(["</s>"], end, eos_token="</s>")
    text = "{% if messages|length > 2 %}{{ " + expression + " }}{% endif %}" + end
    chat = replace(template_of(tokenizer), text=text)
    with pytest.raises(UserError) as caught:
        chat.render(Conversation(TALK), ask=False)
    assert caught.value.code == "invalid-template"
    assert caught.value.message.startswith("the chat template")
    assert "\n" not in caught.value.message
