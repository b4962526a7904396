"""How many prompts are decoded at once: as many as gain anything, or as fit into the machine's own memory."""

from __future__ import annotations

from collections.abc import Sequence

from transformers import PretrainedConfig

from red_cli.distributed.device import shares_memory
from red_cli.distributed.machine_memory import available_memory
from red_cli.inference.runtime import Runtime

# Beams of all prompts together: more gain nothing on a CPU, since they exceed its caches, and little on a GPU.
_SEQUENCES_AT_ONCE = {"cpu": 64, "cuda": 1024}
_SAFE_SHARE = 0.5
_FLOAT_BYTES = 4
_COPIES = {"cache": 2, "logits": 4}  # reordering beams copies the cache; logits are copied a few times


def most_at_once(runtime: Runtime, lengths: Sequence[int], beams: int, max_new_tokens: int) -> int:
    """The first batch size of a decoding; a safe one where the machine's own memory could run out.

    Args:
        lengths: tokens of the prompts.
    """
    device = runtime.model.device
    most = max(1, _SEQUENCES_AT_ONCE.get(device.type, _SEQUENCES_AT_ONCE["cuda"]) // beams)
    if not shares_memory(device):
        return most
    config = runtime.model.config.get_text_config(decoder=True)
    cache = cache_numbers(config, max(lengths, default=0) + max_new_tokens) * _COPIES["cache"]
    sequence = (cache + config.vocab_size * _COPIES["logits"]) * _FLOAT_BYTES
    available = available_memory() / runtime.processes.count
    return max(1, min(most, int(available * _SAFE_SHARE / (sequence * beams))))


def cache_numbers(config: PretrainedConfig, tokens: int) -> int:
    """How many numbers the keys and values of a sequence are, with as many heads as the model keeps."""
    heads = getattr(config, "num_attention_heads", None)
    if heads is None:  # a recurrent state, which is smaller
        return int(2 * config.num_hidden_layers * config.hidden_size * tokens)
    width = getattr(config, "head_dim", None) or getattr(config, "d_kv", None) or config.hidden_size // heads
    kept = getattr(config, "num_key_value_heads", None) or heads
    if hasattr(config, "multi_query"):  # Falcon and GPTBigCode; the grouped heads of later Falcons are kept repeated
        grouped = getattr(config, "new_decoder_architecture", False)
        kept = 1 if config.multi_query and not grouped else heads
    return int(2 * config.num_hidden_layers * kept * width * tokens)
