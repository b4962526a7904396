"""Code that uses a trained model: for its card, and in one line for a terminal."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import Any

from red_cli.edit.adapter_config import AdapterConfig
from red_cli.escape import python_string
from red_cli.export.transformers_classes import auto_class
from red_cli.recipe.schema import Recipe
from red_cli.recipe.tasks.base import DEFAULT_NEW_TOKENS
from red_cli.recipe.template import fill, template_fields

CLASSIFIER, DECODER, ENCODER_DECODER = (
    "AutoModelForSequenceClassification", "AutoModelForCausalLM", "AutoModelForSeq2SeqLM",
)  # fmt: skip
_TEXT = "a text"


@dataclass(frozen=True)
class Input:
    """What the code of a model's use gives it.

    Attributes:
        value: a text, a pair of texts or a conversation, as pipelines take them.
        is_number: whether the answer is a number.
        new_tokens: most tokens of an answer.
    """

    value: Any = _TEXT
    is_number: bool = False
    new_tokens: int = DEFAULT_NEW_TOKENS

    @classmethod
    def of(cls, recipe: Recipe | None) -> Input:
        """An input of a recipe's task; a text if there is no recipe."""
        if recipe is None:
            return cls()
        task, columns = recipe.task, recipe.data.columns
        template = getattr(task, "prompt_template", None)
        value: Any = _TEXT
        if task.chat_template is not None:
            value = [{"role": "user", "content": "Hello!"}]
        elif template is not None:
            value = fill(template, dict.fromkeys(template_fields(template), _TEXT))
        elif not task.writes_text and len(task.input_columns(columns)) > 1:
            value = {"text": _TEXT, "text_pair": "another text"}
        generation = recipe.eval.generation
        tokens = (
            (None if generation is None else generation.max_new_tokens) or task.default_new_tokens or DEFAULT_NEW_TOKENS
        )
        return cls(value, task.is_regression, tokens)


def model_use(name: str, loader: str, given: Input, with_code: bool = False) -> list[str]:
    """Lines that load an ordinary model and print one answer.

    Args:
        name: its folder, or its name on the Hub.
        loader: the auto class of transformers that loads it.
        with_code: whether it has its own modelling file.
    """
    named, option = python_string(name), ", trust_remote_code=True" if with_code else ""
    if loader in (CLASSIFIER, DECODER):
        return ["from transformers import pipeline", *_pipeline_use(f"{named}{option}", loader, given)]
    return [
        f"from transformers import {loader}, AutoTokenizer",
        f"model = {loader}.from_pretrained({named}{option})",
        f"tokenizer = AutoTokenizer.from_pretrained({named})",
        *_answer_of_model(loader, given),
    ]


def adapter_use(name: str, base: str, adapter: AdapterConfig, given: Input) -> list[str]:
    """Lines that load a base, `base`, with the adapter in the folder `name`, and print one answer."""
    at = f"{python_string(base)}" + (f", revision={python_string(adapter.revision)}" if adapter.revision else "")
    loader = auto_class(adapter.architecture or "")
    ready = loader in (CLASSIFIER, DECODER)
    options = ""
    if adapter.head and adapter.label_names:
        names = dict(enumerate(adapter.label_names))
        options = f", id2label={{{', '.join(f'{index}: {python_string(text)}' for index, text in names.items())}}}"
    return [
        "import red_cli",
        f"from transformers import {loader}, AutoTokenizer{', pipeline' if ready else ''}",
        f"model = {loader}.from_pretrained({at}{options})",
        f"tokenizer = AutoTokenizer.from_pretrained({at})",
        f"red_cli.load_adapter(model, {python_string(name)})",
        *(_pipeline_use("model=model, tokenizer=tokenizer", loader, given) if ready else []),
        *(_answer_of_model(loader, given) if not ready else []),
    ]


def gguf_use(file: str) -> list[str]:
    """Code for a terminal that uses a GGUF file: a server of OpenAI's interface, and a conversation."""
    return [f"llama-server -m {shlex.quote(file)}", f"llama-cli -m {shlex.quote(file)}"]


def one_line(lines: list[str]) -> str:
    """A shell command that runs lines of Python."""
    return f"python -c {shlex.quote('; '.join(lines))}"


def _pipeline_use(model: str, loader: str, given: Input) -> list[str]:
    """Lines of Python that make a pipeline and print one answer of it."""
    value = _literal(given.value)
    if loader == CLASSIFIER:
        option = ', function_to_apply="none"' if given.is_number else ""  # else a single number becomes a probability
        return [f'classify = pipeline("text-classification", {model})', f"print(classify({value}{option}))"]
    tokens = f"max_new_tokens={given.new_tokens}"
    chat = isinstance(given.value, list)
    shown = '["generated_text"][-1]["content"]' if chat else '["generated_text"]'
    option = tokens if chat else f"{tokens}, return_full_text=False"
    return [f'generate = pipeline("text-generation", {model})', f"print(generate({value}, {option})[0]{shown})"]


def _answer_of_model(loader: str, given: Input) -> list[str]:
    """Lines of Python that print an answer of `model` and `tokenizer`; none for a model without a known task."""
    if loader != ENCODER_DECODER:
        return []
    tokens = f"max_new_tokens={given.new_tokens}"
    return [
        f'inputs = tokenizer({_literal(given.value)}, return_tensors="pt")',
        f"print(tokenizer.decode(model.generate(**inputs, {tokens})[0], skip_special_tokens=True))",
    ]


def _literal(value: Any) -> str:
    """A Python literal with double quotes, which need no escape inside a shell's single quotes."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_literal(key)}: {_literal(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_literal, value)) + "]"
    return python_string(str(value))
