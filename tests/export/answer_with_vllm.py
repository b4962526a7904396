"""Answer prompts of token ids with vLLM: `PYTHON answer_with_vllm.py QUESTIONS.json ANSWERS.json`.

Runs in an environment of its own, with vLLM. The questions are {"prompts": [[id, …], …], "new_tokens": N,
"models": [[folder, model_impl], …]}; the answers are a list, one for each model: {"tokens": …} or {"error": …}.
"""

import gc
import json
import os
import sys
from pathlib import Path


def main(questions: Path, answers: Path) -> None:
    from vllm import LLM, SamplingParams

    asked = json.loads(questions.read_text())
    greedy = SamplingParams(temperature=0, max_tokens=asked["new_tokens"], ignore_eos=True, detokenize=False)
    found = []
    for folder, implementation in asked["models"]:
        try:
            model = LLM(
                model=folder, model_impl=implementation, dtype="float32", skip_tokenizer_init=True, max_model_len=64,
                max_num_seqs=4, num_gpu_blocks_override=16, enforce_eager=True, enable_prefix_caching=False,
            )  # fmt: skip
            outputs = model.generate([{"prompt_token_ids": prompt} for prompt in asked["prompts"]], greedy)
            found.append({"tokens": [list(output.outputs[0].token_ids) for output in outputs]})
            del model, outputs
        except Exception as error:  # the others are asked all the same
            found.append({"error": f"{type(error).__name__}: {error}"})
        gc.collect()
    answers.write_text(json.dumps(found))


if __name__ == "__main__":
    # Before vLLM reads them: one process, little memory
    os.environ |= {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_CPU_KVCACHE_SPACE": "1", "HF_HUB_OFFLINE": "1"}
    main(Path(sys.argv[1]), Path(sys.argv[2]))
