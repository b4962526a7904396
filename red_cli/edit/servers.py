"""What servers of texts read of a model's biases, as facts about an architecture."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True)
class Reads:
    """What one server reads of an architecture's biases.

    Attributes:
        unread: regular expression for the ends of the paths of modules whose biases the server's own class has no
            place for; empty: it reads every bias that an export can have.
        run: whether the server's answers to exports were compared with those of transformers; else its code was read.
    """

    unread: str = ""
    run: bool = False

    def has_place_at(self, path: str) -> bool:
        """Whether the server has a place for a bias of the module `path`."""
        return not self.unread or re.fullmatch(rf"(?:.*\.)?(?:{self.unread})", path) is None


class Servers(NamedTuple):
    """Which servers run an architecture; None: not on their list. docs/servers.md says what was tried."""

    vllm: Reads | None = None
    llama_cpp: Reads | None = None


# What one server reads
EVERY = Reads(run=True)
NOT_OUTPUT = Reads(r"self_attn\.o_proj", run=True)
NOT_ATTENTION = Reads(r"self_attn\.[qkvo]_proj", run=True)
# What the servers read
BOTH = Servers(EVERY, EVERY)
VLLM = Servers(vllm=EVERY)
BUT_OUTPUT_IN_LLAMA_CPP = Servers(EVERY, NOT_OUTPUT)
