"""The entry point of ``orbweaver-controller``: the daemon, or a command of the chart's hooks."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Final

from core.process.python_garbage_collector import gc_paused, skip_final_collection

PROGRAM: Final = "orbweaver-controller"
HOOK_COMMANDS: Final = (
    "clean",
    "make-defaults",
    "etcd-certificates",
    "etcd-access",
    "copy-cni",
    "shutdown",
)


def main() -> None:
    """Run the daemon or a command. Import only its module, to save time and memory."""
    is_command = len(sys.argv) > 1 and sys.argv[1] in HOOK_COMMANDS
    skip_final_collection()
    with gc_paused():
        module = import_module("ops.controller.hooks" if is_command else "ops.controller.daemon")
    module.main()


if __name__ == "__main__":
    main()
