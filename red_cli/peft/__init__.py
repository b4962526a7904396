"""RED as a tuner of PEFT: importing this registers it. Needs the extra `baselines`.

import red_cli.peft
from peft import PeftModel, get_peft_model

model = get_peft_model(base, red_cli.peft.RedConfig(task_type="CAUSAL_LM"))
model = PeftModel.from_pretrained(base, "run/adapter")
"""

from __future__ import annotations

import importlib.util

if importlib.util.find_spec("peft") is None:
    raise ModuleNotFoundError("red_cli.peft needs PEFT: pip install 'red-finetune[baselines]'", name="peft")

from red_cli.peft.config import RedConfig
from red_cli.peft.layer import PeftEdit
from red_cli.peft.registration import register
from red_cli.peft.tuner import RedModel

__all__ = ["PeftEdit", "RedConfig", "RedModel"]

register(RedConfig, RedModel)
