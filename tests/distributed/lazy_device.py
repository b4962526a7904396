"""`red` on torch's lazy device: one that is no CPU, has no module in torch, and refuses tensors of another device.

What that device alone does not have is replaced: inference mode, and storages that can be saved.
"""

from __future__ import annotations

from typing import Any

import torch
import torch._lazy.ts_backend
from accelerate import PartialState
from torch.utils._pytree import tree_map

from red_cli.cli import main

_save = torch.save


def save(content: Any, *arguments: Any, **options: Any) -> None:
    _save(tree_map(lambda value: value.cpu() if isinstance(value, torch.Tensor) else value, content), *arguments)


torch._lazy.ts_backend.init()
torch.inference_mode, torch.save = torch.no_grad, save
PartialState.default_device = property(lambda state: torch.device("lazy"))

if __name__ == "__main__":
    main()
