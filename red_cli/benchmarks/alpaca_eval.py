"""AlpacaEval: write the file of answers that alpaca_eval judges."""

from __future__ import annotations

import importlib.util
import shlex
from pathlib import Path
from typing import Any

from red_cli.benchmarks.question_suites import (
    load_live,
    model_name,
    open_language_model,
    prompt_ids,
    read_questions,
    require_absent,
    suite_decoding,
    suite_template,
    write_answers,
)
from red_cli.benchmarks.request import SuiteRequest
from red_cli.distributed.process_group import Processes
from red_cli.errors import UserError, first_line
from red_cli.files import write_json
from red_cli.inference.generate import ResumableOutput
from red_cli.recipe.sections import Decoding
from red_cli.runs.events import Listener
from red_cli.runs.open_trained import Opened

NAME = "alpaca-eval"
# AlpacaEval prescribes no decoding options; these are of the paper's code, generate_alpaca_eval.py
DECODING = Decoding(max_new_tokens=768, repetition_penalty=1.1, no_repeat_ngram_size=5)
_HUB_NAME, _HUB_FILE = "tatsu-lab/alpaca_eval", "alpaca_eval.json"  # 805 instructions


def answer_alpaca_eval(
    target: Opened, request: SuiteRequest, output: Path, listener: Listener, processes: Processes
) -> dict[str, Any]:
    """Answer the 805 instructions, or those of request.questions; write <output>/alpaca-eval/outputs.json.

    Raises:
        UserError: that file exists, the questions cannot be read, or the model or its template cannot be used.
    """
    request.only("questions", "template", "limit")
    path = output / NAME / "outputs.json"
    require_absent(path)
    with processes.main_first():
        source = request.questions or _from_hub()
    questions = read_questions(source, ("instruction",))[: request.limit]
    base = open_language_model(target)
    name, template = suite_template(request.template, target.recipe, base.tokenizer)
    options = suite_decoding(DECODING, target.recipe, request.overrides)
    prompts = [
        prompt_ids(template, [{"role": "user", "content": str(question["instruction"])}]) for question in questions
    ]
    runtime = load_live(target, base, listener, processes)
    resumable = ResumableOutput(path.with_suffix(".partial.jsonl"), target.identity)
    answers = write_answers(runtime, prompts, options, template.end, resumable)
    if not processes.main:
        return {}
    generator = model_name(target)
    rows = [
        {
            "dataset": question.get("dataset", NAME),
            "instruction": question["instruction"],
            "output": answer.text,
            "generator": generator,
        }
        for question, answer in zip(questions, answers, strict=True)
    ]
    write_json(path, rows)
    resumable.remove()
    return {
        "answers": str(path),
        "questions": len(rows),
        "unfinished": sum(not answer.finished for answer in answers),
        "template": name,
        "decoding": options.model_dump(),
        "next": _judging(path),
    }


def _judging(path: Path) -> list[str]:
    """The commands that judge: of the current version, and of the paper's (against text-davinci-003)."""
    outputs = shlex.quote(str(path))
    install = [] if importlib.util.find_spec("alpaca_eval") else ["pip install alpaca-eval  # is not installed here"]
    return [
        *install,
        f"alpaca_eval --model_outputs {outputs}",
        f"IS_ALPACA_EVAL_2=False alpaca_eval --model_outputs {outputs}  # version 1, the paper's",
    ]


def _from_hub() -> Path:
    """Download AlpacaEval's file of instructions from the Hub."""
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(_HUB_NAME, _HUB_FILE, repo_type="dataset"))
    except Exception as error:  # the library raises a dozen kinds; each has the reason in its first line
        raise UserError(
            "unavailable",
            f"{_HUB_NAME} cannot be downloaded from the Hub: {first_line(error)}",
            hint="Name a local file of instructions: --questions FILE",
        ) from None
