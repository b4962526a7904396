"""Keys of tasks that are answered with texts, and the faults that show between them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from red_cli.recipe.instruction import InstructionTask
from red_cli.recipe.section import Count, CountFromZero, Positive, Section, TaskSettings
from red_cli.recipe.template import checked

Template = Annotated[str, AfterValidator(checked)]
LabelTexts = Annotated[list[Annotated[str, Field(min_length=1)]], Field(min_length=2)]
Fault = tuple[tuple[str, ...], str]  # key path, what is wrong
DEFAULT_NEW_TOKENS = 128  # most tokens of a text, where the recipe does not say


class GenerationTask(TaskSettings):
    """A prompt -> a text that completes it, written by a decoder or an encoder-decoder."""

    name: Literal["generation"]
    prompt_template: Template | None = Field(
        default=None, description="The prompt, columns in braces: 'Q: {question}'; instead of data.columns.prompt."
    )
    completion_template: Template | None = Field(
        default=None, description="The completion, columns in braces; instead of data.columns.completion."
    )
    train_on_prompt: bool = Field(default=False, description="Learn the prompt's tokens too, not the completion alone.")
    end_token: str | None = Field(
        default=None, description="The token that ends a completion; default: the tokenizer's end of a sequence."
    )


class E2eTask(TaskSettings):
    """E2E NLG: a meaning representation, such as name[Blue Spice], food[French], -> a text that says all of it."""

    name: Literal["e2e"]
    linearization: Literal["table", "published"] = Field(
        default="table",
        description="How the meaning is written. table: 'name : Blue Spice | food : French', as LoRA and prefix-tuning "
        "have it; published: as it stands in the data, as RED's published code has it.",
    )


class Decoding(Section):
    """How texts are generated: the options of transformers' GenerationConfig, with its defaults."""

    max_new_tokens: Count | None = Field(
        default=None, description="Most tokens of a text; default: 128, or the longest label with text_to_text."
    )
    min_new_tokens: CountFromZero = Field(default=0, description="Fewest tokens of a text.")
    num_beams: Count = Field(default=1, description="Beam search with so many beams; 1: the likeliest token each time.")
    length_penalty: float = Field(default=1.0, description="Beam search: above 0 favours longer texts, below shorter.")
    early_stopping: bool | Literal["never"] = Field(default=False, description="Beam search: when a text is settled.")
    no_repeat_ngram_size: CountFromZero = Field(default=0, description="No run of so many tokens twice; 0: any.")
    repetition_penalty: Positive = Field(default=1.0, description="Above 1: what was there already is less likely.")
    do_sample: bool = Field(default=False, description="Draw tokens at random, by train.seed.")
    temperature: Positive = Field(default=1.0, description="Sampling: below 1 sharper, above 1 flatter.")
    top_k: CountFromZero = Field(default=50, description="Sampling: among so many tokens; 0: all.")
    top_p: Annotated[float, Field(gt=0, le=1)] = Field(default=1.0, description="Sampling: among this share.")


def faults_of_texts(task: Any, columns: Any, is_number: bool) -> list[Fault]:
    """Keys of the one way of reading rows in a task that has the other."""
    faults: list[Fault] = []
    idle: list[tuple[str, ...]]
    if isinstance(task, InstructionTask):
        return faults
    if isinstance(task, GenerationTask | E2eTask):
        idle = [("data", "columns", name) for name in ("text", "text_pair", "label") if getattr(columns, name)]
        faults += [(path, f"{task.name} has a prompt and a completion") for path in idle]
        for part in ("prompt", "completion"):
            if getattr(columns, part) and getattr(task, f"{part}_template", None):
                faults.append((("data", "columns", part), f"give the column or task.{part}_template, not both"))
        return faults
    if task.name == "commonsense":
        idle = [("data", "columns", name) for name in ("text", "text_pair") if getattr(columns, name)]
        return [(path, "commonsense has a prompt, a completion and a label") for path in idle]
    idle = [("data", "columns", name) for name in ("prompt", "completion") if getattr(columns, name)]
    faults += [(path, f"{task.name} has a text and a label") for path in idle]
    if not task.text_to_text:
        unset = {"prompt_template": None, "label_texts": None, "decimals": 1}
        idle = [("task", name) for name, value in unset.items() if getattr(task, name, value) != value]
        faults += [(path, "has an effect only with task.text_to_text: true") for path in idle]
    if getattr(task, "label_texts", None) and is_number:
        faults.append((("task", "label_texts"), "this task is answered with numbers"))
    if task.prompt_template is not None and (columns.text or columns.text_pair):
        faults.append((("task", "prompt_template"), "give it or data.columns.text, not both"))
    return faults


def faults_of_decoding(decoding: Decoding | None, generates: bool) -> list[Fault]:
    """Options that have no effect beside the others."""
    path = ("eval", "generation")
    if decoding is None:
        return []
    if not generates:
        return [(path, "this task's answers are no texts")]
    needs: dict[str, tuple[str, bool]] = {
        "length_penalty": ("num_beams above 1", decoding.num_beams > 1),
        "early_stopping": ("num_beams above 1", decoding.num_beams > 1),
        **dict.fromkeys(("temperature", "top_k", "top_p"), ("do_sample: true", decoding.do_sample)),
    }
    idle = [name for name, (_, met) in needs.items() if not met and getattr(decoding, name) != _default(name)]
    return [((*path, name), f"has an effect only with {needs[name][0]}") for name in idle]


def _default(name: str) -> Any:
    return Decoding.model_fields[name].default
