"""MT-Bench: answer both turns of its questions, in the file layout of FastChat's judge."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import shlex
import time
from collections.abc import Sequence
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
from red_cli.errors import UserError
from red_cli.files import write_text
from red_cli.inference.generate import ResumableOutput
from red_cli.recipe.sections import Decoding
from red_cli.runs.events import Listener
from red_cli.runs.open_trained import Opened
from red_cli.tasks.base import Generated

NAME = "mt-bench"
_MAX_NEW_TOKENS = 1024
# FastChat's, by the question's category; 0 is greedy
TEMPERATURES = {"writing": 0.7, "roleplay": 0.7, "extraction": 0.0, "math": 0.0, "coding": 0.0, "reasoning": 0.0,
                "stem": 0.1, "humanities": 0.1}  # fmt: skip
_OTHER_TEMPERATURE = 0.7
_ID_LENGTH = 22  # of FastChat's answer ids

Question = dict[str, Any]


def answer_mt_bench(
    target: Opened, request: SuiteRequest, output: Path, listener: Listener, processes: Processes
) -> dict[str, Any]:
    """Answer both turns of request.questions; write <output>/mt-bench/model_answer/<model>.jsonl.

    Raises:
        UserError: that file exists, the questions cannot be read, or the model or its template cannot be used.
    """
    request.only("questions", "template", "limit")
    model_id = model_name(target)
    path = output / NAME / "model_answer" / f"{model_id}.jsonl"
    require_absent(path)
    if request.questions is None:
        raise UserError(
            "invalid-option",
            "mt-bench needs a file of questions: --questions FILE",
            hint="FastChat has it: fastchat/llm_judge/data/mt_bench/question.jsonl",
        )
    questions = _read(request.questions)[: request.limit]
    base = open_language_model(target)
    name, template = suite_template(request.template, target.recipe, base.tokenizer)
    runtime = load_live(target, base, listener, processes)
    identity = target.identity
    answers: dict[int, list[Generated]] = {place: [] for place in range(len(questions))}
    resumables = []
    for temperature in sorted({_temperature(question) for question in questions}):
        places = [place for place, question in enumerate(questions) if _temperature(question) == temperature]
        options = suite_decoding(_decoding(temperature), target.recipe, request.overrides)
        for turn in range(2):
            partial = path.with_name(f"{model_id}.turn{turn + 1}-{temperature:g}.partial.jsonl")
            resumables.append(ResumableOutput(partial, identity))
            asked = [prompt_ids(template, _conversation(questions[place], answers[place])) for place in places]
            written = write_answers(runtime, asked, options, template.end, resumables[-1])
            for place, answer in zip(places, written, strict=True):
                answers[place].append(answer)
    if not processes.main:
        return {}
    lines = [
        json.dumps(_line(question, answers[place], model_id), ensure_ascii=False)
        for place, question in sorted(enumerate(questions), key=lambda item: _order(item[1]))
    ]
    write_text(path, "\n".join(lines) + "\n")
    for resumable in resumables:
        resumable.remove()
    return {
        "answers": str(path),
        "questions": len(questions),
        "unfinished": sum(not answer.finished for turns in answers.values() for answer in turns),
        "template": name,
        "model_id": model_id,
        "next": _judging(path, model_id),
    }


def _read(path: Path) -> list[Question]:
    """Read the questions of MT-Bench; check that each has two turns and its own id."""
    questions: list[Question] = read_questions(path, ("question_id", "category", "turns"))
    for number, question in enumerate(questions, start=1):
        turns = question["turns"]
        if not isinstance(turns, list) or len(turns) != 2 or not all(isinstance(turn, str) for turn in turns):
            raise UserError("invalid-row", f"{path}, question {number}: 'turns' is not a list of two texts")
    numbers = [question["question_id"] for question in questions]
    if len({str(number) for number in numbers}) < len(numbers):
        raise UserError("invalid-row", f"{path}: a question_id occurs twice")
    return questions


def _order(question: Question) -> tuple[bool, Any]:
    """Sort key: numbers by size, then texts."""
    number = question["question_id"]
    return isinstance(number, str), number


def _temperature(question: Question) -> float:
    """The sampling temperature of an MT-Bench question: its own, or that of its category."""
    return float(question.get("required_temperature", TEMPERATURES.get(question["category"], _OTHER_TEMPERATURE)))


def _decoding(temperature: float) -> Decoding:
    """The decoding settings of MT-Bench at a temperature; greedy at 0."""
    if temperature == 0:
        return Decoding(max_new_tokens=_MAX_NEW_TOKENS)
    return Decoding(max_new_tokens=_MAX_NEW_TOKENS, do_sample=True, temperature=temperature)


def _conversation(question: Question, answers: Sequence[Generated]) -> list[dict[str, str]]:
    """The messages of an MT-Bench question up to the user's next turn."""
    conversation = []
    for turn, asked in enumerate(question["turns"][: len(answers) + 1]):
        conversation.append({"role": "user", "content": asked})
        if turn < len(answers):
            conversation.append({"role": "assistant", "content": answers[turn].text})
    return conversation


def _line(question: Question, answers: Sequence[Generated], model_id: str) -> dict[str, Any]:
    """One line of MT-Bench's file of answers: both turns to a question, in the layout of FastChat's judge."""
    turns = [answer.text for answer in answers]
    about = json.dumps([model_id, question["question_id"], turns])
    return {
        "question_id": question["question_id"],
        "answer_id": hashlib.sha256(about.encode()).hexdigest()[:_ID_LENGTH],
        "model_id": model_id,
        "choices": [{"index": 0, "turns": turns}],
        "tstamp": time.time(),
    }


def _judging(path: Path, model_id: str) -> list[str]:
    """The shell commands that judge MT-Bench answers by FastChat."""
    place, name = "FastChat/fastchat/llm_judge", shlex.quote(model_id)
    install = [
        "git clone https://github.com/lm-sys/FastChat && pip install -e 'FastChat[llm_judge]'  # is not installed here"
    ]
    return [
        *([] if importlib.util.find_spec("fastchat") else install),
        f"cp {shlex.quote(str(path))} {place}/data/mt_bench/model_answer/",
        f"cd {place} && python gen_judgment.py --model-list {name} && python show_result.py --model-list {name}",
    ]
