"""Attaches and detaches virtual functions a thousand times while an agent runs, and counts leaks.

``python -m tests.vm.vf_cycles`` boots the virtual machine, runs this module there with the path of
a file for the findings, and prints them. It takes too long for a test. A cycle is the life of a
Pod: a virtual function is moved into a network namespace, renamed, set up with an address, and
returns when the namespace ends.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from core.domain.sriov.plan import default_mac
from tests.nodeagent.sriov.written_source import WrittenSource
from tests.support.deadlines import until
from tests.support.vm import Finding, run_inside, write_findings
from tests.vm.sriov_scenarios import NIC, PF, agent_with, command, current_vfs, policy, until_done

VFS: Final = 7
CYCLES: Final = 1_000
CYCLES_DEADLINE_S: Final = 2_400
RETURN_S: Final = 120.0
NETNS: Final = Path("/run/netns")
LINKS: Final = Path("/sys/class/net")


def batch(lines: Iterable[str], *options: str) -> None:
    """Run many commands of ip(8) in one process."""
    process = subprocess.run(
        ["ip", *options, "-batch", "-"],
        input="\n".join(lines),
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr


def links() -> list[str]:
    """The links of the virtual functions in the node's namespace, by number."""
    directories = (PF / f"device/virtfn{number}/net" for number in range(VFS))
    return [path.name for net in directories if net.is_dir() for path in net.iterdir()]


async def run_cycles(count: int) -> None:
    """Run one cycle with each of the first ``count`` virtual functions."""
    pods = [f"pod-{number}" for number in range(count)]
    names = links()[:count]
    batch(
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
        batch(commands, "-n", pod)
    batch(f"netns delete {pod}" for pod in pods)
    await until(lambda: len(links()) == VFS, RETURN_S)


async def run_in_machine() -> list[Finding]:
    for module in ("igb", "igbvf"):
        command("modprobe", module)
    (card,) = (path.parent.parent for path in LINKS.glob("*/device/sriov_totalvfs"))
    command("ip", "link", "set", card.name, "name", NIC)
    source = WrittenSource()
    source.ask(policy(VFS))
    started = time.monotonic()
    cycles = 0
    async with agent_with(source) as fault:
        await until_done(source, VFS)
        before, all_links = current_vfs(), len(list(LINKS.iterdir()))
        while cycles < CYCLES:
            count = min(VFS, CYCLES - cycles)
            await run_cycles(count)
            cycles += count
        source.reports.clear()
        source.ask(policy(VFS))
        await until_done(source, VFS)
        last_fault = fault()
    (nic,) = (nic for nic in source.last.nics if nic.name == NIC)
    namespaces = [path.name for path in NETNS.iterdir()] if NETNS.is_dir() else []
    leaks = {
        "virtual functions": VFS - len(current_vfs()),
        "namespaces": len(namespaces),
        "links": len(list(LINKS.iterdir())) - all_links,
        "changed virtual functions": sum(
            old != new for old, new in zip(before, current_vfs(), strict=False)
        ),
        "other addresses": sum(vf.mac != default_mac(nic, vf.number) for vf in current_vfs()),
    }
    seconds = time.monotonic() - started
    text = f"{cycles} cycles in {seconds:.0f} s: {leaks} {last_fault}"
    is_clean = not any(leaks.values()) and not last_fault
    return [Finding(text, "" if is_clean else text)]


def boot() -> int:
    """Run the cycles in the virtual machine; the exit code is 0 without leaks."""
    findings, console = run_inside("tests.vm.vf_cycles", CYCLES_DEADLINE_S)
    sys.stdout.write("\n".join(finding.name for finding in findings) or console)
    return int(not findings or any(finding.fault for finding in findings))


if __name__ == "__main__":
    if sys.argv[1:]:
        write_findings(Path(sys.argv[1]), asyncio.run(run_in_machine()))
    else:
        sys.exit(boot())
