"""Run commands of `red` one after another in the ranks that torchrun started: `commands_on_ranks.py COMMANDS.json`."""

from __future__ import annotations

import json
import os
import sys
import traceback
from pathlib import Path

from red_cli.cli import app
from red_cli.distributed.worker_process import show_failure
from red_cli.inference import input_file

ROWS_OF_A_PART = 10


def main() -> None:
    input_file.PART = ROWS_OF_A_PART  # several parts of a small file
    for arguments in json.loads(Path(sys.argv[1]).read_text()):
        sys.argv = ["red", *arguments]
        try:
            app(arguments, standalone_mode=False)
        except BaseException:
            show_failure(traceback.format_exc())  # of a rank that is silenced
            raise
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
