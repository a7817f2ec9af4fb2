"""Attaches and detaches virtual functions a thousand times while an agent runs, and counts leaks.

``python -m tests.vm.vf_cycles`` boots the virtual machine, runs this module there, and prints the
leaks.

A cycle moves a virtual function into a network namespace and deletes the namespace. The kernel then
returns the virtual function to the node.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Final, NamedTuple

from core.domain.sriov.vf_macs_and_guids import default_mac
from tests.nodeagent.sriov.fake_policy_source import FakePolicySource
from tests.support.deadlines import until
from tests.support.vm import BOOT_DEADLINE_S, Finding, run_module_in_vm, write_findings
from tests.vm.sriov_scenarios import (
    NIC_NAME,
    PF_SYSFS,
    agent_with,
    command,
    current_vfs,
    policy,
    until_done,
)

VFS: Final = 7
"""The number of virtual functions that the emulated card supports."""

CYCLES: Final = 1_000
CYCLES_DEADLINE_S: Final = 2_400
RETURN_DEADLINE_S: Final = 120.0

NETNS: Final = Path("/run/netns")
LINKS: Final = Path("/sys/class/net")


class CycleRun(NamedTuple):
    """The result of a run. ``fault`` is the fault of the agent's last round, or ""."""

    cycles: int
    seconds: float
    leaks: dict[str, int]
    fault: str = ""

    def __str__(self) -> str:
        leaks = ", ".join(f"{count} {kind}" for kind, count in self.leaks.items() if count)
        return (
            f"{self.cycles} cycles in {self.seconds:.0f} s; left: {leaks or 'nothing'} {self.fault}"
        )


def run_ip_commands(lines: Iterable[str], *options: str) -> None:
    process = subprocess.run(
        ["ip", *options, "-batch", "-"],
        input="\n".join(lines),
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr


def vf_links() -> list[str]:
    """The links of virtual functions in the node's namespace, sorted by VF number."""
    directories = (PF_SYSFS / f"device/virtfn{number}/net" for number in range(VFS))
    return [path.name for net in directories if net.is_dir() for path in net.iterdir()]


async def run_cycles(count: int) -> None:
    """Run one cycle with each of the first ``count`` virtual functions."""
    pods = [f"pod-{number}" for number in range(count)]
    names = vf_links()[:count]
    run_ip_commands(
        line
        for pod, name in zip(pods, names, strict=True)
        for line in (f"netns add {pod}", f"link set dev {name} netns {pod}")
    )
    for number, (pod, name) in enumerate(zip(pods, names, strict=True)):
        commands = (
            f"link set dev {name} name net1",
            f"address add 10.6.0.{100 + number}/24 dev net1",
            "link set dev net1 up",
        )
        run_ip_commands(commands, "-n", pod)
    run_ip_commands(f"netns delete {pod}" for pod in pods)
    await until(lambda: len(vf_links()) == VFS, RETURN_DEADLINE_S)


async def run_in_machine(seconds_max: float) -> CycleRun:
    """Run ``CYCLES`` cycles or until ``seconds_max``, at least one with each virtual function."""
    for module in ("igb", "igbvf"):
        command("modprobe", module)
    (card,) = (path.parent.parent for path in LINKS.glob("*/device/sriov_totalvfs"))
    command("ip", "link", "set", card.name, "name", NIC_NAME)
    source = FakePolicySource()
    source.set_policies(policy(VFS))
    started = time.monotonic()
    cycles = 0
    async with agent_with(source) as fault:
        await until_done(source, VFS)
        before, all_links = current_vfs(), len(list(LINKS.iterdir()))
        while cycles < CYCLES and (not cycles or time.monotonic() - started < seconds_max):
            count = min(VFS, CYCLES - cycles)
            await run_cycles(count)
            cycles += count
        source.reports.clear()
        source.set_policies(policy(VFS))
        await until_done(source, VFS)
        last_fault = fault()
    (nic,) = (nic for nic in source.last_report.nics if nic.name == NIC_NAME)
    namespaces = [path.name for path in NETNS.iterdir()] if NETNS.is_dir() else []
    leaks = {
        "virtual functions": VFS - len(current_vfs()),
        "namespaces": len(namespaces),
        "links": len(list(LINKS.iterdir())) - all_links,
        "changed virtual functions": sum(
            old != new for old, new in zip(before, current_vfs(), strict=False)
        ),
        "changed MAC addresses": sum(vf.mac != default_mac(nic, vf.number) for vf in current_vfs()),
    }
    return CycleRun(cycles, time.monotonic() - started, leaks, last_fault)


def boot(seconds_max: float = CYCLES_DEADLINE_S) -> CycleRun:
    """Run the cycles in the virtual machine; RuntimeError if there is no result."""
    findings, console = run_module_in_vm(
        "tests.vm.vf_cycles", str(seconds_max), deadline_s=seconds_max + BOOT_DEADLINE_S
    )
    if not findings:
        raise RuntimeError(f"the virtual machine wrote no result: {console}")
    return CycleRun(*json.loads(findings[0].name))  # the finding's name is the result


def main() -> int:
    """Return 1 if there is a leak or a fault."""
    run = boot()
    sys.stdout.write(f"{run}\n")
    return int(any(run.leaks.values()) or bool(run.fault))


if __name__ == "__main__":
    if sys.argv[1:]:
        file, limit = sys.argv[1:]
        result = asyncio.run(run_in_machine(float(limit)))
        write_findings(Path(file), [Finding(json.dumps(result), "")])
    else:
        sys.exit(main())
