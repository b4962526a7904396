"""The folder of LLM-Adapters with a few questions of each task, questions for the judges, and a base."""

from __future__ import annotations

import json
import random
from pathlib import Path

from tests.documents.workspaces import conversations, write_jsonl, write_model

_SHORT = ["train.max_steps=2", "data.validation_share=0.2", "eval.generation.max_new_tokens=4"]
EXTRA_KEYS = {
    "train": _SHORT,
    "eval": ["eval.generation.max_new_tokens=4"],
}
OPTIONS = {
    "boolq": ("true", "false"),
    "piqa": ("solution1", "solution2"),
    "social_i_qa": ("answer1", "answer2", "answer3"),
    "hellaswag": ("ending1", "ending2", "ending3", "ending4"),
    "winogrande": ("option1", "option2"),
    "ARC-Easy": ("answer1", "answer2", "answer3", "answer4"),
    "ARC-Challenge": ("answer1", "answer2", "answer3", "answer4"),
    "openbookqa": ("answer1", "answer2", "answer3", "answer4"),
}


def prepare(folder: Path) -> None:
    write_questions(folder / "LLM-Adapters")
    write_jsonl(folder / "talks.jsonl", conversations(24))
    turns = [{"question_id": 81, "category": "writing", "turns": ["Where is my parcel?", "When does it arrive?"]}]
    write_jsonl(folder / "question.jsonl", turns)
    (folder / "instructions.json").write_text(json.dumps([{"instruction": "Where is my parcel?", "dataset": "mine"}]))
    write_model(folder / "HuggingFaceTB/SmolLM2-135M", "llama")


def write_questions(folder: Path) -> None:
    """Four test questions of each task, and the joint rows for the training."""
    draw, joint = random.Random(0), []
    for task, options in OPTIONS.items():
        rows = []
        for index in range(8):
            answer = draw.choice(options)
            question = f"Is it number {index}?\n\nAnswer format: {'/'.join(options)}"
            output = f"the correct answer is {answer}"
            rows.append({"instruction": question, "input": "", "output": output, "answer": answer})
        path = folder / "dataset" / task / "test.json"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(rows[:4]))
        joint += rows
    (folder / "ft-training_set").mkdir()
    (folder / "ft-training_set" / "commonsense_170k.json").write_text(json.dumps(joint))
