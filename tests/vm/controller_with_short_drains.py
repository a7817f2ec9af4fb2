"""The controller's daemon, which gives up drains after seconds instead of minutes.

python -m tests.vm.controller_with_short_drains --kubeconfig=FILE --config-path FILE
"""

from __future__ import annotations

from typing import Final

from core.domain.sriov import drain_plan
from ops.controller.main import main
from workflows.jobs.node_drain import drains

DRAIN_S_MAX: Final = 20.0
RETRY_S: Final = 10.0
"""Seconds between a drain that is given up and the next drain of the node."""

ROUND_S: Final = 2.0
"""Seconds between two rounds of the drain workflow."""


def shorten_drains() -> None:
    replacements = (
        (drain_plan, "DRAIN_S_MAX", DRAIN_S_MAX),
        (drain_plan, "RETRY_S", RETRY_S),
        (drains, "ACTIVE_S", ROUND_S),
        (drains, "IDLE_S", ROUND_S),
    )
    for module, name, value in replacements:
        setattr(module, name, value)


if __name__ == "__main__":
    shorten_drains()
    main()
