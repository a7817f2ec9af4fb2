"""``python -m ops.demo`` runs the steps in a temporary laboratory.

Exit codes: 0 success, 1 a failed step or removal, 130 Ctrl-C, 143 SIGTERM or a closed terminal.
"""

from __future__ import annotations

import signal
import sys
from typing import Annotated, Final

import typer

from core.errors import OrbweaverError
from ops.demo.datapath import COORDINATOR_FIELDS, missing_capability
from ops.demo.demo_output import DemoFailed, DemoOutput
from ops.demo.demo_state import DemoState
from ops.demo.steps import DEMO_STEPS
from ops.lab.identity import LabFailed
from ops.lab.laboratory import Laboratory
from ops.lab.leftovers import LabResources, resources_of
from ops.lab.runtime import CniFailed

FAILED: Final = 1
INTERRUPTED: Final = 130
TERMINATED: Final = 143


def demo(
    stay: Annotated[
        bool, typer.Option("--stay", help="wait for Enter before everything is removed")
    ] = False,
) -> None:
    """Show what Orbweaver does: two nodes, Pods, a crash, a leak, and queries of the log."""
    printer = DemoOutput()
    missing = missing_capability()
    laboratory = Laboratory(
        coordinator=None if missing.no_reply_marks else COORDINATOR_FIELDS,
        cluster_ips=not missing.no_services,
    )
    try:
        with laboratory:
            state = DemoState(printer, laboratory, missing)
            for step in DEMO_STEPS:
                step(state)
            duration_s = printer.seconds
            if stay:
                _wait(printer, laboratory)
        leftovers = resources_of(laboratory.identity)
        if leftovers != LabResources():
            raise DemoFailed(f"not all was removed; remove what remains by hand: {leftovers}")
    except KeyboardInterrupt:
        printer.fail("interrupted; everything is removed")
        raise typer.Exit(INTERRUPTED) from None
    except (DemoFailed, LabFailed, CniFailed, OrbweaverError) as error:
        printer.fail(f"the demo failed: {error}")
        raise typer.Exit(FAILED) from None
    printer.end(f"Done in {duration_s:.1f} s. Nothing is left: no process, no namespace, no file.")


def _wait(printer: DemoOutput, laboratory: Laboratory) -> None:
    printer.say("Everything runs, the console too, until you press Enter. For example:")
    printer.command(f"export ORBWEAVER_ETCD_ENDPOINTS={laboratory.etcd.outside_endpoint}")
    printer.command("orbctl get endpoints -A")
    printer.command("ip netns")
    sys.stdin.readline()


def main() -> None:
    """Run the demo; SIGTERM and SIGHUP end it."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(TERMINATED))
    typer.run(demo)


if __name__ == "__main__":
    main()
