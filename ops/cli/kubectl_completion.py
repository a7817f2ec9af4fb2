"""``kubectl_complete-orb``: completes ``kubectl orb``.

Prints one completion on each line, then a directive.
Source: Kubernetes' documentation, "Extend kubectl with plugins".
"""

from __future__ import annotations

import contextlib
import io
import os
import shlex
import sys
from typing import Final

from core.process.python_garbage_collector import prepare_short_run
from ops.cli.commands.program import COMPLETE_VARIABLE
from ops.cli.global_options import ProcessContext
from ops.cli.main import run

NO_FILES: Final = ":4"
"""Directive: the shell must not complete file names."""

FILES: Final = ":0"
"""Directive: the shell may complete file names."""


def main() -> None:
    """Entry point of the console script."""
    prepare_short_run()
    words = ["orbctl", *sys.argv[1:]]
    os.environ[COMPLETE_VARIABLE] = "complete_bash"
    os.environ["COMP_WORDS"] = shlex.join(words)
    os.environ["COMP_CWORD"] = str(len(words) - 1)
    captured = io.StringIO()
    with contextlib.redirect_stdout(captured):
        run([], ProcessContext())
    completions = captured.getvalue().rstrip("\n")
    print(f"{completions}\n{NO_FILES}" if completions else FILES)


if __name__ == "__main__":
    main()
