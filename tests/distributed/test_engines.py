"""The engines of several processes give the gradients, states and weights of one."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.distributed import engines_on_ranks
from tests.extras import has_extra


@pytest.mark.slow  # starts two processes
def test_engines_on_two_ranks() -> None:
    stages = engines_on_ranks.STAGES if has_extra("deepspeed") else ()
    torchrun = ("-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone", engines_on_ranks.__file__)
    done = subprocess.run([sys.executable, *torchrun, *stages], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    assert "_buffers` is deprecated" not in done.stderr
