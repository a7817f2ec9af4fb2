"""Objects left on a node after attaching and detaching virtual functions a thousand times.

The node is a virtual machine with an SR-IOV card; it boots in a minute or more.
"""

from __future__ import annotations

from bench.figures import Figure, NotTaken
from bench.rig.lab import Lab
from tests.support.vm import VirtualMachine
from tests.vm.vf_cycles import boot


def measure(lab: Lab) -> list[Figure]:
    """Measure vf_leaks. Raises NotTaken without qemu, busybox or a kernel."""
    missing = VirtualMachine.why_not()
    if missing:
        raise NotTaken(f"{missing}: run scripts/vm-kernel.sh")
    run = boot(lab.seconds_left)
    if run.fault:
        raise RuntimeError(f"the agent failed after {run.cycles} cycles: {run.fault}")
    return [Figure("vf_leaks", sum(run.leaks.values()), "objects left", note=str(run).strip())]
