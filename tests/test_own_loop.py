"""RED in training loops of others: the page's Python as it stands, and TRL's trainers with attach and with PEFT."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

import red_cli
from red_cli.errors import UserError
from red_cli.methods.red import trained_red
from red_cli.train.output_spread import measure_output_spread
from tests.tiny import first_output, make_base, make_language_model, random_vectors, tiny_inputs, tiny_model

PAGE = (Path(__file__).parents[1] / "docs" / "guide" / "own_loop.md").read_text()
TRAINERS = ["SFT", "DPO", "Reward", "GRPO"]
BLOCKS = dict(re.findall(r"(?ms)^## ([^\n]+)\n(?:(?!^## ).)*?```python\n(.*?)```", PAGE))
EXAMPLES = {heading: BLOCKS[heading] for heading in ("PyTorch", "Trainer", *TRAINERS)}
DECODER, ENCODER = "HuggingFaceTB/SmolLM2-135M", "FacebookAI/roberta-base"
STEPS = 4


@pytest.fixture
def bases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder, the current one, with tiny bases under the page's names."""
    make_language_model(tmp_path / DECODER, "llama", letters=True)
    make_base(tmp_path / ENCODER, "roberta")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    "example", [pytest.param(name, marks=[] if name[0] in "PT" else pytest.mark.slow) for name in EXAMPLES]
)
def test_an_example_trains_and_what_it_saves_answers_alike(
    example: str, bases: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "peft" in EXAMPLES[example]:
        pytest.importorskip("peft")
    if "trl" in EXAMPLES[example]:
        on_cpu(pytest.importorskip("trl"), monkeypatch)
    training, loading = EXAMPLES[example].rsplit("\n\n", 1)
    names: dict[str, Any] = {}
    torch.manual_seed(1)
    exec(training, names)
    trained = plain_model(names.get("trainer"), names.get("model"))
    assert moved(trained) > 0
    torch.manual_seed(2)
    exec(loading, names)
    assert largest_difference(trained, names["model"]) == 0.0


def test_the_other_python_of_the_page(bases: Path) -> None:
    """What is saved, loaded and folded, several adapters in a batch, and PEFT; with random vectors as training."""
    pytest.importorskip("peft")
    assert len(EXAMPLES) + 3 == len(BLOCKS) == PAGE.count("```python")
    names: dict[str, Any] = {}
    attaching, loading = BLOCKS["Save, load and fold"].split("...  # your loop\n")
    exec(attaching, names)
    random_vectors(names["model"].train())
    trained, inputs = names["model"].eval(), tiny_inputs()
    expected = first_output(trained, inputs)
    exec(loading, names)
    tuned = AutoModelForSequenceClassification.from_pretrained("topics")
    for model in (names["model"], tuned):
        torch.testing.assert_close(first_output(model, inputs), expected, atol=1e-5, rtol=0)

    for seed, name in enumerate(["reviews", "questions"]):
        model = AutoModelForCausalLM.from_pretrained(DECODER)
        red_cli.attach(model)
        random_vectors(model, seed)
        red_cli.save_adapter(model, f"adapters/{name}")
    names = {"batch": tiny_inputs("llama")}
    exec(BLOCKS["Several adapters"], names)
    assert names["base"].red_attachment.selection.active == "reviews"

    attaching, loading = re.split(r"(?m)^\.\.\..*\n", BLOCKS["PEFT"])
    names = {name: AutoModelForCausalLM.from_pretrained(DECODER) for name in ("base", "plain_base")}
    exec(attaching, names)
    for vector in vectors_of(names["model"]).values():
        vector.add_(0.1)
    expected = first_output(names["model"].eval(), tiny_inputs("llama"))
    exec(loading, names)
    assert not vectors_of(names["model"])
    merged = first_output(names["model"].eval(), tiny_inputs("llama"))
    torch.testing.assert_close(merged, expected, atol=1e-5, rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize("way", ["attach", "peft"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", TRAINERS)
def test_a_trainer_of_trl(
    kind: str, way: str, dtype: torch.dtype, bases: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only vectors, and a new head, move; the base is in memory once; and the saved adapter answers alike."""
    trl = pytest.importorskip("trl")
    on_cpu(trl, monkeypatch)
    torch.manual_seed(0)
    classes = {"num_labels": 1} if kind == "Reward" else {}
    auto = AutoModelForSequenceClassification if classes else AutoModelForCausalLM
    model = auto.from_pretrained(DECODER, dtype=dtype, **classes)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    options: dict[str, Any] = {}
    if way == "attach":
        red_cli.attach(model)
        model.enable_input_require_grads()
    else:
        peft = pytest.importorskip("red_cli.peft")
        head = {"task_type": "SEQ_CLS", "modules_to_save": ["score"]} if classes else {}
        options["peft_config"] = peft.RedConfig(**head)
    trainer = trl_trainer(trl, kind, way)(model, train_dataset=preferences(kind), **options)
    assert getattr(trainer, "ref_model", None) is None
    trainable = {name for name, parameter in trainer.model.named_parameters() if parameter.requires_grad}
    assert trainable
    assert all(".red" in name or ("score" in name and bool(classes)) for name in trainable)
    trainer.train()
    assert trainer.state.global_step == STEPS
    trained = plain_model(trainer, None)
    assert moved(trained) > 0
    assert {vector.dtype for vector in vectors_of(trained).values()} == {torch.float32}
    after = {plain_name(name): value for name, value in trained.state_dict().items()}
    for name, value in before.items():
        if name.startswith("score"):
            continue
        assert torch.equal(after[name], value), name
    trainer.save_model("adapter")
    files = {path.name: path.stat().st_size for path in Path("adapter").glob("*.safetensors")}
    assert list(files) == ["adapter_model.safetensors"]
    torch.manual_seed(7)
    loaded = red_cli.load("adapter", dtype=dtype)
    assert largest_difference(trained, loaded) == 0.0


def trl_trainer(trl: Any, kind: str, way: str) -> Callable[..., Any]:
    """TRL's trainer of this kind with gradient checkpointing and four steps; it takes a model and rows."""
    own = {
        "SFT": {"max_length": 16},
        "DPO": {"precompute_ref_log_probs": way == "attach"},
        "Reward": {},
        "GRPO": {"num_generations": 2, "max_completion_length": 4, "beta": 0.0 if way == "attach" else 0.1},
    }[kind]
    arguments = getattr(trl, f"{kind}Config")(
        "out", max_steps=STEPS, per_device_train_batch_size=2, learning_rate=1e-2, report_to="none",
        save_strategy="no", gradient_checkpointing=True, bf16=False, **own,
    )  # fmt: skip
    tokenizer = AutoTokenizer.from_pretrained(DECODER)
    options: dict[str, Any] = {"args": arguments, "processing_class": tokenizer}
    if kind == "GRPO":
        options["reward_funcs"] = lambda completions, **columns: [float(index) for index, _ in enumerate(completions)]
    return partial(getattr(trl, f"{kind}Trainer"), **options)


def preferences(kind: str) -> Dataset:
    """Eight rows with the columns that a trainer of this kind reads."""
    columns = {
        "SFT": {"prompt": "a film", "completion": " so good"},
        "DPO": {"prompt": "a film", "chosen": " so good", "rejected": " so dull"},
        "Reward": {"prompt": "a film", "chosen": " so good", "rejected": " so dull"},
        "GRPO": {"prompt": "a film"},
    }[kind]
    return Dataset.from_dict({name: [text] * 8 for name, text in columns.items()})


def on_cpu(trl: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the page says to add without a GPU."""
    for kind in TRAINERS:
        monkeypatch.setattr(trl, f"{kind}Config", partial(getattr(trl, f"{kind}Config"), use_cpu=True))


def plain_model(trainer: Any, model: torch.nn.Module | None) -> torch.nn.Module:
    """The model with the edits that a trainer trained, without the wrappers of Accelerate."""
    if trainer is not None:
        model = trainer.accelerator.unwrap_model(trainer.model, keep_fp32_wrapper=False)
    assert model is not None
    return model


def vectors_of(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.detach() for name, value in model.named_parameters() if ".red." in name}


def plain_name(name: str) -> str:
    """The name of a parameter in the base, without what PEFT puts around it."""
    return name.removeprefix("base_model.model.").replace("modules_to_save.default.", "").replace("base_layer.", "")


def moved(model: torch.nn.Module) -> float:
    """The largest change of a vector from its neutral value."""
    return max(float((value - float("scale" in name)).abs().max()) for name, value in vectors_of(model).items())


def largest_difference(trained: torch.nn.Module, loaded: torch.nn.Module) -> float:
    """Of the logits of some tokens, in evaluation mode."""
    inputs = {name: value.to(next(trained.parameters()).device) for name, value in tiny_inputs().items()}
    inputs = {name: value for name, value in inputs.items() if name in ("input_ids", "attention_mask")}
    with torch.no_grad():
        logits = [model.eval()(**inputs).logits.float() for model in (trained, loaded)]
    return float((logits[0] - logits[1]).abs().max())


def test_a_group_has_the_learning_rate_of_red_train() -> None:
    """5e-2 in all: half of it for scales, and half of it times the spread for each of two biases in a layer."""
    model = tiny_model("bert")
    red_cli.attach(model, red_cli.RedConfig(positions=["ffn", "attn"]))
    inputs = tiny_inputs()
    inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
    inputs["attention_mask"][0, 5:] = 0
    groups = red_cli.parameter_groups(model, [inputs], weight_decay=0.1, head_learning_rate=3e-4)
    trained = trained_red(model)

    def forward() -> None:
        for row, length in enumerate([5, 12, 12, 12]):
            model(**{name: value[row : row + 1, :length] for name, value in inputs.items()})

    tokens, spreads = measure_output_spread(model, trained.modules, forward)
    assert tokens == 5 + 3 * 12
    scales, *biases, head = groups
    assert (scales["lr"], scales["weight_decay"]) == (pytest.approx(5e-2 / 2), 0)
    assert (head["lr"], head["weight_decay"]) == (3e-4, 0.1)
    assert {id(each) for each in head["params"]} == {id(model.get_parameter(name)) for name in trained.head}
    for group, (name, path) in zip(biases, trained.module_of_bias.items(), strict=True):
        assert group["params"] == [model.get_parameter(name)]
        assert group["lr"] == pytest.approx(5e-2 / 2 * spreads[path])
    assert model.red_attachment.selection.active == "default"


def test_a_model_of_peft_has_the_same_groups() -> None:
    peft, red_peft = pytest.importorskip("peft"), pytest.importorskip("red_cli.peft")
    plain, wrapped = tiny_model("llama"), tiny_model("llama")
    red_cli.attach(plain, red_cli.RedConfig(positions=["ffn", "attn"]))
    wrapped = peft.get_peft_model(wrapped, red_peft.RedConfig(positions=["ffn", "attn"]))
    batches = [tiny_inputs("llama")]
    first, second = (red_cli.parameter_groups(model, batches) for model in (plain, wrapped))
    assert [group["lr"] for group in first] == [group["lr"] for group in second]
    assert len(first) > 2
    shapes = [[[parameter.shape for parameter in group["params"]] for group in groups] for groups in (first, second)]
    assert shapes[0] == shapes[1]


def test_padding_of_an_encoder_decoder_is_not_measured_and_modes_stay() -> None:
    model = tiny_model("t5")
    red_cli.attach(model)
    texts, answers = [[5, 6, 7, 8], [9, 10]], [[11, 12], [13, 14, 15, 16]]
    padded = {
        "input_ids": torch.tensor([[5, 6, 7, 8], [9, 10, 0, 0]]),
        "attention_mask": torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]]),
        "labels": torch.tensor([[11, 12, -100, -100], [13, 14, 15, 16]]),
    }
    apart = [{"input_ids": [text], "labels": [answer]} for text, answer in zip(texts, answers, strict=True)]
    model.train().encoder.eval()
    modes = [module.training for module in model.modules()]
    assert {*modes} == {True, False}
    first, second = (red_cli.parameter_groups(model, batches) for batches in ([padded], apart))
    assert [group["lr"] for group in first] == pytest.approx([group["lr"] for group in second], rel=1e-6)
    assert [module.training for module in model.modules()] == modes


@pytest.mark.parametrize(
    ("attached", "batches", "code"), [(False, [tiny_inputs()], "invalid-adapter-name"), (True, [], "no-rows")]
)
def test_what_cannot_be_measured_is_refused(attached: bool, batches: list[dict[str, torch.Tensor]], code: str) -> None:
    model = tiny_model("bert")
    if attached:
        red_cli.attach(model)
    with pytest.raises(UserError) as caught:
        red_cli.parameter_groups(model, batches)
    assert caught.value.code == code
