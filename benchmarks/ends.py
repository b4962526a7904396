"""Train answers that end with a token at which the base does not stop, export, and see other programs stop there.

    python benchmarks/ends.py --base SmolLM2-135M-Instruct   # a folder with a LLaMA that has a chat template
    python benchmarks/ends.py                                # a tiny random base

A copy of the base gets <|endoftext|> as its own end, as base models have it. Plain transformers answers every prompt of
the training and, where gguf and xllamacpp are installed, llama.cpp on a GGUF file of the export. An answer counts as
ended if it is the trained one and the program itself stopped after it. Turns of the tiny base end with a token that
llama.cpp does not know as an end by its name.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from measuring import parser_for, train_tokenizer
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

OWN_END = "<|endoftext|>"
TEMPLATE = (
    "{% for message in messages %}{{ '<|turn|>' + message.role + '\\n' + message.content + '<|over|>\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|turn|>assistant\\n' }}{% endif %}"
)
_MOST_TOKENS = 40


def questions(count: int) -> list[list[dict[str, str]]]:
    """Conversations with one short answer each."""
    return [
        [{"role": "user", "content": f"say {number}"}, {"role": "assistant", "content": f"it is {number}"}]
        for number in range(count)
    ]


def make_tiny_base(folder: Path) -> Path:
    """A random LLaMA with a byte-level tokenizer and a chat template."""
    tokenizer = train_tokenizer([message["content"] for talk in questions(10) for message in talk])
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|turn|>", "<|over|>"]})
    tokenizer.chat_template = TEMPLATE
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=256, initializer_range=0.2, tie_word_embeddings=True,
        bos_token_id=None, eos_token_id=0, pad_token_id=0,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def with_own_end(base: Path, folder: Path) -> Path:
    """A copy of a base that stops at <|endoftext|> alone."""
    shutil.copytree(base, folder)
    own = AutoTokenizer.from_pretrained(folder).convert_tokens_to_ids(OWN_END)
    changes = {
        "config.json": {"eos_token_id": own, "pad_token_id": own},
        "generation_config.json": {"eos_token_id": own, "pad_token_id": own},
        "tokenizer_config.json": {"eos_token": OWN_END, "pad_token": OWN_END},
    }
    for name, values in changes.items():
        file = folder / name
        content = json.loads(file.read_text()) if file.is_file() else {}
        file.write_text(json.dumps({**content, **values}))
    return folder


def red(*arguments: object) -> None:
    subprocess.run([sys.executable, "-m", "red_cli", *map(str, arguments)], check=True, stdout=subprocess.DEVNULL)


def answers_of_transformers(folder: Path) -> Callable[[str], tuple[str, bool]]:
    """Plain `generate`, with the model's own generation_config.json: prompt -> text, and whether it stopped."""
    model, tokenizer = (kind.from_pretrained(folder) for kind in (AutoModelForCausalLM, AutoTokenizer))

    def answer(prompt: str) -> tuple[str, bool]:
        inputs = tokenizer(prompt, add_special_tokens=False, return_tensors="pt")
        written = model.generate(**inputs, max_new_tokens=_MOST_TOKENS, do_sample=False)[0]
        new = written[inputs["input_ids"].shape[1] :]
        return tokenizer.decode(new, skip_special_tokens=True), len(new) < _MOST_TOKENS

    return answer


def answers_of_llama_cpp(file: Path) -> Callable[[str], tuple[str, bool]]:
    """llama.cpp on a GGUF file: prompt -> text, and whether it stopped."""
    import xllamacpp

    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(file)
    parameters.n_ctx, parameters.n_parallel, parameters.cpuparams.n_threads = 256, 1, 2
    parameters.warmup = False
    server = xllamacpp.Server(parameters)

    def answer(prompt: str) -> tuple[str, bool]:
        request = {"prompt": prompt, "max_tokens": _MOST_TOKENS, "temperature": 0}
        choice = server.handle_completions(request)["choices"][0]
        return choice["text"], choice["finish_reason"] == "stop"

    return answer


def main() -> None:
    parser = parser_for(__doc__)
    parser.add_argument("--base", type=Path, help="a LLaMA folder; default: a tiny random one")
    parser.add_argument("--work", type=Path, default=Path("/tmp/bench_ends"), help="a folder for models; emptied")
    parser.add_argument("--rows", type=int, default=4)
    parser.add_argument("--steps", type=int, help="default: 16 with --base, 150 without")
    options = parser.parse_args()
    shutil.rmtree(options.work, ignore_errors=True)
    options.work.mkdir(parents=True)
    base = with_own_end(options.base or make_tiny_base(options.work / "tiny"), options.work / "base")
    talks = questions(options.rows)
    rows = options.work / "rows.jsonl"
    rows.write_text("".join(json.dumps({"messages": talk}) + "\n" for talk in talks))
    run, export, steps = options.work / "run", options.work / "export", options.steps or (16 if options.base else 150)
    rate = "1e-2" if options.base else "5e-2"
    red(
        "train", "instruction", "task.template=own", f"model.name_or_path={base}", "data.path=null",
        f"data.train={rows}", f"data.validation={rows}", "data.max_length=96", f"train.max_steps={steps}",
        f"train.eval_steps={steps}", f"train.batch_size={options.rows}", f"train.learning_rate={rate}",
        "red.positions=[ffn,attn,query,key,value]", f"output.dir={run}",
    )  # fmt: skip
    red("export", run, "--output", export)
    ways = {"transformers": answers_of_transformers(export)}
    try:
        import xllamacpp  # noqa: F401 - is it installed?

        red("export", run, "--output", options.work / "export.gguf", "--format", "gguf")
        ways["llama.cpp"] = answers_of_llama_cpp(options.work / "export.gguf")
    except ImportError as missing:
        print(f"llama.cpp       not tried: {missing.name} is not installed (pip install gguf xllamacpp)")
    shutil.copyfile(base / "generation_config.json", export / "generation_config.json")
    ways["base's ends"] = answers_of_transformers(export)
    tokenizer = AutoTokenizer.from_pretrained(export)
    for name, answer in ways.items():
        ended = 0
        for asked, said in talks:
            prompt = tokenizer.apply_chat_template([asked], tokenize=False, add_generation_prompt=True)
            text, stopped = answer(prompt)
            ended += stopped and text.strip() == said["content"]
        print(f"{name:15} {ended} of {len(talks)} answers end where they were trained to")


if __name__ == "__main__":
    main()
