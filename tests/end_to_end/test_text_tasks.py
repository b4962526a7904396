"""Generation and text to text through the command line, on tiny models."""

from __future__ import annotations

import json
import math
import os
import signal
from pathlib import Path

import pytest

from red_cli.edit.load_adapters import WEIGHTS_FILE
from red_cli.inference import generate as generate_module
from red_cli.train import loop as train_module
from tests.failures import assert_failed
from tests.tiny import make_language_model, read_lines, sentences

LANGUAGE_MODELS = ["gpt2", "t5", "bart"]  # LLaMA: test_instruction_tuning.py


def write_jsonl(path: Path, rows: list[dict]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def completions(count: int, seed: int) -> list[dict]:
    """The completion repeats the prompt's last word; the prompt's length decides the next word."""
    rows = []
    for row in sentences(count, seed):
        words = str(row["text"]).split()[:6]
        rows.append({"prompt": " ".join(words), "completion": f"{words[-1]} {'good' if len(words) > 4 else 'bad'}"})
    return rows


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("texts")
    for seed, (split, count) in enumerate({"train": 64, "validation": 24, "test": 30}.items()):
        write_jsonl(folder / f"{split}.jsonl", completions(count, seed))
    return folder


@pytest.fixture
def generation(tmp_path: Path, texts: Path) -> Path:
    """A recipe for generation; the base is in the test's folder."""
    path = tmp_path / "texts.yaml"
    path.write_text(
        f"""# Tiny texts. For tests.
task: {{name: generation}}
model: {{name_or_path: {tmp_path / "base"}}}
data: {{path: {texts}}}
train: {{learning_rate: 3e-2, num_train_epochs: 3, batch_size: 16, micro_batch_size: 16, logging_steps: 1}}
eval: {{generation: {{max_new_tokens: 6}}}}
output: {{dir: {tmp_path / "run"}}}
"""
    )
    return path


@pytest.mark.parametrize(
    ("model_type", "keys", "reported"),
    [("t5", [], True), ("t5", ["red.components=[scale]"], False), ("gpt2", [], False), ("qwen3", [], True),
     ("qwen3", ["red.positions=[query]"], False)],
)  # fmt: skip
def test_a_bias_without_a_home_is_reported_at_the_start(
    red, generation: Path, tmp_path: Path, model_type: str, keys: list[str], reported: bool
) -> None:
    make_language_model(tmp_path / "base", model_type)
    plan = red("check", generation, *keys, "--json").json["plan"]
    assert (plan["export_obstacle"] is not None) == reported
    shown = " ".join(red("check", generation, *keys).out.split())
    assert ("--format code" in shown) == reported


@pytest.mark.parametrize("model_type", LANGUAGE_MODELS)
def test_train_and_eval(red, generation: Path, tmp_path: Path, model_type: str) -> None:
    make_language_model(tmp_path / "base", model_type)
    outcome = red("train", generation, "--json")
    assert outcome.code == 0, outcome.err
    trained, run = outcome.json, tmp_path / "run"
    assert trained["metric"] == "loss"
    assert trained["parameters"]["head"] == 0
    losses = [line["validation_loss"] for line in read_lines(run / "log.jsonl") if "validation_loss" in line]
    assert trained["best"]["value"] == min(losses) < losses[0] or losses[0] == min(losses)
    assert trained["splits"]["validation"]["perplexity"] == pytest.approx(math.exp(trained["best"]["value"]))
    steps = [line["loss"] for line in read_lines(run / "log.jsonl") if "loss" in line]
    assert sum(steps[-4:]) < sum(steps[:4])
    config = json.loads((run / "adapter" / "adapter_config.json").read_text())
    encoder_decoder = model_type in ("t5", "bart")
    assert config["task_type"] == ("SEQ_2_SEQ_LM" if encoder_decoder else "CAUSAL_LM")
    assert config["head"] == []
    assert red("eval", run, "--split", "validation", "--json").json["scores"]["loss"] == pytest.approx(
        min(losses), rel=1e-5
    )
    evaluated = red("eval", run, "--json").json
    assert evaluated["split"] == "test"
    assert evaluated["scores"].keys() == {"loss", "perplexity", "exact_match", "unfinished"}
    rows = read_lines(run / "predictions" / "test.jsonl")
    assert [row["index"] for row in rows] == list(range(30))
    assert [(row["prompt"], row["label"]) for row in rows] == [
        (row["prompt"], row["completion"]) for row in completions(30, 2)
    ]
    assert sum(row["loss"] for row in rows) / sum(row["tokens"] for row in rows) == pytest.approx(
        evaluated["scores"]["loss"]
    )
    assert (evaluated["truncated"], evaluated["ends_cut"]) == (0, 0)
    assert not list(run.rglob("*.partial.jsonl"))
    assert red("eval", run, "--json").json["scores"] == evaluated["scores"]
    own_code = model_type == "t5"
    form = ["--format", "code"] if own_code else []
    exported = red("export", run, "-o", tmp_path / "merged", *form, "--json")
    assert exported.code == 0, exported.err
    assert exported.json["checked_on"] == "examples of the task"
    if own_code:
        assert red("eval", tmp_path / "merged").code == 2  # its code has not been allowed
    allowed = ["model.trust_remote_code=true"] if own_code else []
    again = red("eval", tmp_path / "merged", *allowed, "--json")
    assert again.code == 0, again.err
    assert again.json["scores"] == pytest.approx(evaluated["scores"], rel=1e-4)


def test_micro_batches_do_not_change_the_training(red, generation: Path, tmp_path: Path) -> None:
    """The loss is the mean over the labelled tokens of a step, of which rows have different numbers."""
    make_language_model(tmp_path / "base", "gpt2")
    losses = []
    for size in (16, 5, 1):
        run = tmp_path / f"micro-{size}"
        options = [
            f"output.dir={run}",
            f"train.micro_batch_size={size}",
            "model.dropout=0.0",
            "train.num_train_epochs=1",
        ]
        assert red("train", generation, *options).code == 0
        losses.append([line["loss"] for line in read_lines(run / "log.jsonl") if "loss" in line])
    for other in losses[1:]:
        assert other == pytest.approx(losses[0], rel=1e-4)


OPTIONS = {
    "gradient checkpointing": ["train.gradient_checkpointing=true"],
    "bfloat16 autocast": ["train.bf16=true"],
    "bfloat16 base": ["model.dtype=bfloat16"],
    "found micro-batch": ["train.micro_batch_size=null"],
    "prompts too": ["task={name: generation, train_on_prompt: true}"],
    "sampling": ["eval.generation={max_new_tokens: 5, do_sample: true, top_p: 0.9}"],
    "all of RED++": ["red.positions=[ffn, attn, qkv]"],
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS.keys())
def test_options(red, generation: Path, tmp_path: Path, options: list[str]) -> None:
    make_language_model(tmp_path / "base", "gpt2")
    outcome = red("train", generation, *options, "eval.metric=exact_match", "train.num_train_epochs=1", "--json")
    assert outcome.code == 0, outcome.err
    scores = {name: value for name, value in outcome.json["splits"]["validation"].items() if name != "examples"}
    again = red("eval", tmp_path / "run", "--split", "validation", "--json").json["scores"]
    assert again == pytest.approx(scores, rel=1e-4)


def test_a_stopped_run_ends_in_the_same_adapter(
    red, generation: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_language_model(tmp_path / "base", "gpt2")
    options = ["train.eval_steps=3", "eval.metric=exact_match"]  # texts are generated on the way
    assert red("train", generation, *options, f"output.dir={tmp_path / 'whole'}").code == 0
    real_step = train_module.optimizer_step

    def step(session, rows):
        if session.state.step == 4:
            os.kill(os.getpid(), signal.SIGINT)
        return real_step(session, rows)

    monkeypatch.setattr(train_module, "optimizer_step", step)
    assert red("train", generation, *options).code == 130
    monkeypatch.setattr(train_module, "optimizer_step", real_step)
    assert red("train", generation, *options, "--resume").code == 0
    whole, resumed = ((tmp_path / name / "adapter" / WEIGHTS_FILE).read_bytes() for name in ("whole", "run"))
    assert whole == resumed
    assert "validation_exact_match" in read_lines(tmp_path / "run" / "log.jsonl")[3]


def test_an_interrupted_evaluation_resumes(
    red, generation: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_language_model(tmp_path / "base", "gpt2")
    assert red("train", generation, "train.num_train_epochs=1", "eval.batch_size=8").code == 0
    run = tmp_path / "run"
    real = generate_module.Decoder._decode
    batches = []

    def decode(self, prompts, *rest):
        batches.append(len(prompts))
        if len(batches) == 3:
            raise KeyboardInterrupt
        return real(self, prompts, *rest)

    monkeypatch.setattr(generate_module.Decoder, "_decode", decode)
    stopped = red("eval", run, "--json")
    assert_failed(stopped, "interrupted", "test.partial.jsonl", exit_code=130)
    assert len(read_lines(run / "predictions" / "test.partial.jsonl")) == 1 + 16
    assert not (run / "predictions" / "test.jsonl").exists()
    outcome = red("eval", run, "--json")
    assert outcome.code == 0
    assert "16 of" in outcome.err
    assert sum(batches[3:]) == len({row["prompt"] for row in completions(30, 2)}) - 16
    assert not (run / "predictions" / "test.partial.jsonl").exists()
    assert red("eval", run, "--json").json == outcome.json


def test_a_split_without_completions_is_completed(red, generation: Path, tmp_path: Path) -> None:
    make_language_model(tmp_path / "base", "gpt2")
    assert red("train", generation, "train.num_train_epochs=1").code == 0
    file = write_jsonl(tmp_path / "new.jsonl", [{"prompt": "the film"}, {"prompt": "a story was"}])
    outcome = red("eval", tmp_path / "run", f"data.path={file}", "--json").json
    assert (outcome["scores"], outcome["examples"]) == (None, 2)
    rows = read_lines(Path(outcome["predictions"]))
    assert [row["prompt"] for row in rows] == ["the film", "a story was"]
    assert all(isinstance(row["prediction"], str) and row["label"] is None for row in rows)


def test_check_shows_prompt_completion_and_end(red, generation: Path, tmp_path: Path) -> None:
    make_language_model(tmp_path / "base", "gpt2")
    plan = red("check", generation, "data.max_length=6", "--json").json["plan"]
    example, row = plan["examples"][0], completions(1, 0)[0]
    words = row["prompt"].split()
    assert example["tokens"][: example["masked"]] == words[-3:]
    assert example["tokens"][example["masked"] :] == [*row["completion"].split(), "[SEP]"]
    assert plan["lengths"]["train"]["truncated"] > 0
    assert plan["lengths"]["train"]["ends_cut"] == 0
    assert plan["memory"]["logits_per_row"] > 0
    text = red("check", generation, "data.max_length=3").out
    shown = " ".join(text.split())
    assert "cut at 3, 64 without their end; validation 24 cut at 3, 24 without their end" in shown
    assert f"→ {row['completion']}" in shown
    assert "head" not in text.split("parameters")[1].split("\n")[0]


T2T = "task={name: classification, text_to_text: true"
GENERATION = "task={name: generation}"
UNNAMED = "eval.metric=null"  # the recipe's is for labels
LABELS = {
    "classification": ([T2T + "}"], "accuracy", "no_label"),
    "texts and template": (
        [T2T + ", label_texts: ['0', '1'], prompt_template: 'of {text}'}"], "accuracy", "no_label",
    ),
    "numbers": (
        ["task={name: regression, text_to_text: true}", UNNAMED, "data.columns.label=score"], "pearson", "no_number",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("options", "metric", "failed"), LABELS.values(), ids=LABELS.keys())
def test_text_to_text(red, recipe: Path, tmp_path: Path, options: list[str], metric: str, failed: str) -> None:
    base = make_language_model(tmp_path / "base", "t5", letters=True)
    once = ["train.num_train_epochs=3", "train.eval_steps=18"]
    options = [*options, f"model.name_or_path={base}", "train.learning_rate=1e-1", *once]
    outcome = red("train", recipe, *options, "--json")
    assert outcome.code == 0, outcome.err
    scores, run = outcome.json["splits"]["validation"], tmp_path / "run"
    assert outcome.json["metric"] == metric
    assert 0 <= scores[failed] <= 40
    losses = [line["loss"] for line in read_lines(run / "log.jsonl") if "loss" in line]
    assert sum(losses[-6:]) < 0.9 * sum(losses[:6])
    again = red("eval", run, "--split", "validation", "--json").json["scores"]
    assert again == pytest.approx({name: value for name, value in scores.items() if name != "examples"})
    rows = read_lines(run / "predictions" / "validation.jsonl")
    assert sum(row["prediction"] is None for row in rows) == scores[failed]
    assert all(isinstance(row["text"], str) for row in rows)
    lone = tmp_path / "lone.csv"
    lone.write_text("text\nthe film was good\n")  # label names come with the adapter, not from training data
    answer = red("eval", run, f"data.path={lone}", "--json")
    assert answer.code == 0, answer.err


PAIR = "data.columns={prompt: text, completion: label}"
FAULTS = {
    "not an encoder-decoder": ("bert", ["task.text_to_text=true"], "unsupported-model", "bert"),
    "a decoder": ("gpt2", ["task.text_to_text=true"], "unsupported-model", "gpt2"),
    "an encoder writes no text": ("bert", [GENERATION, PAIR, UNNAMED], "unsupported-model", "bert"),
    "ambiguous": ("t5", [T2T + ", label_texts: [good, good]}"], "labels-mismatch", "'good' and 'good'"),
    "texts without being asked": ("t5", ["task.label_texts=[a, b]"], "invalid-recipe", "task.label_texts"),
    "decoding of no text": ("bert", ["eval.generation={num_beams: 3}"], "invalid-recipe", "eval.generation"),
    "beams alone": ("gpt2", [GENERATION, "eval.generation.length_penalty=2"], "invalid-recipe", "length_penalty"),
    "sampling alone": ("gpt2", [GENERATION, "eval.generation.temperature=2"], "invalid-recipe", "temperature"),
    "metric of labels": ("gpt2", [GENERATION, "eval.metric=f1"], "invalid-recipe", "eval.metric"),
    "head alone": ("gpt2", [GENERATION, "method=head"], "invalid-recipe", "method"),
    "rate of no head": (
        "t5", ["task.text_to_text=true", "train.head_learning_rate=1e-3"], "invalid-recipe", "train.head_learning_rate",
    ),
    "template": ("gpt2", ["task={name: generation, prompt_template: 'x {'}"], "invalid-recipe", "task.prompt_template"),
    "template without a column": (
        "gpt2", ["task={name: generation, prompt_template: x}"], "invalid-recipe", "task.prompt_template",
    ),
    "text column": ("gpt2", [GENERATION, "data.columns.text=text"], "invalid-recipe", "data.columns.text"),
    "prompt column": ("bert", ["data.columns.prompt=text"], "invalid-recipe", "data.columns.prompt"),
    "both": (
        "gpt2", ["task={name: generation, prompt_template: '{text}'}", "data.columns.prompt=text"], "invalid-recipe",
        "data.columns.prompt",
    ),
    "nothing to train on": (
        "gpt2", [GENERATION, "data.columns.prompt=text", UNNAMED], "column-not-found", "'completion'",
    ),
    "prompt of an encoder": (
        "t5", ["task={name: generation, train_on_prompt: true}", PAIR, UNNAMED], "unsupported-model",
        "task.train_on_prompt",
    ),
    "too long": ("bert", ["data.max_length=5", "data.too_long=refuse"], "too-long", "5 tokens, the first is row"),
}  # fmt: skip


@pytest.mark.parametrize(("model_type", "options", "code", "fact"), FAULTS.values(), ids=FAULTS.keys())
def test_faults(
    red, recipe: Path, base: Path, tmp_path: Path, model_type: str, options: list[str], code: str, fact: str
) -> None:
    model = base if model_type == "bert" else make_language_model(tmp_path / "base", model_type)
    outcome = red("train", recipe, f"model.name_or_path={model}", *options, "--json")
    assert_failed(outcome, code, fact)
    assert len(outcome.err.splitlines()) <= 4
    assert not (tmp_path / "run").exists()


def test_an_adapter_of_another_kind_of_task(red, recipe: Path, generation: Path, tmp_path: Path) -> None:
    make_language_model(tmp_path / "base", "gpt2")
    assert red("train", generation, "train.num_train_epochs=1").code == 0
    outcome = red("eval", tmp_path / "run" / "adapter", "--recipe", recipe, "--json")
    assert_failed(outcome, "base-mismatch", str(tmp_path / "run"))


def test_the_recipe_for_ones_own_texts(red, texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As its comments say, but for the base."""
    make_language_model(tmp_path / "base", "gpt2")
    monkeypatch.chdir(tmp_path)
    assert red("recipes", "copy", "generation").code == 0
    options = [
        f"data.path={texts}",
        "model.name_or_path=base",
        "train.num_train_epochs=1",
        "eval.generation.max_new_tokens=5",
    ]
    assert red("check", "generation.yaml", *options).code == 0
    outcome = red("train", "generation.yaml", *options)
    assert outcome.code == 0, outcome.err
    assert "perplexity" in outcome.out
    assert red("eval", "runs/generation-seed42").code == 0
    assert len(read_lines(tmp_path / "runs" / "generation-seed42" / "predictions" / "test.jsonl")) == 30
