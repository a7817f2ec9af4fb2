"""Attaches and detaches virtual functions a thousand times while an agent keeps them, and counts.

``python -m tests.vm.vf_cycles`` boots the virtual machine, runs there with a file for the findings,
and prints them; it takes longer than a test may. A cycle is what the life of a Pod is to a virtual
function: into a network namespace, renamed, up with an address, and back when the namespace ends.
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
from tests.vm.sriov_scenarios import NIC, PF, agent_with, command, policy, present, until_done

VFS: Final = 7
CYCLES: Final = 1_000
CYCLES_DEADLINE_S: Final = 2_400
BACK_S: Final = 120.0
NETNS: Final = Path("/run/netns")
LINKS: Final = Path("/sys/class/net")


def batch(lines: Iterable[str], *options: str) -> None:
    """Many commands of ip(8) in one process."""
    done = subprocess.run(
        ["ip", *options, "-batch", "-"],
        input="\n".join(lines),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def links() -> list[str]:
    """The links of the virtual functions in the node's namespace, by number."""
    found = (PF / f"device/virtfn{number}/net" for number in range(VFS))
    return [path.name for net in found if net.is_dir() for path in net.iterdir()]


async def one_round(count: int) -> None:
    """So many virtual functions into Pods and back."""
    pods = [f"pod-{number}" for number in range(count)]
    names = links()[:count]
    batch(
        line
        for pod, name in zip(pods, names, strict=True)
        for line in (f"netns add {pod}", f"link set dev {name} netns {pod}")
    )
    for number, (pod, name) in enumerate(zip(pods, names, strict=True)):
        inside = (
            f"link set dev {name} name net1",
            f"address add 10.6.0.{100 + number}/24 dev net1",
            "link set dev net1 up",
        )
        batch(inside, "-n", pod)
    batch(f"netns delete {pod}" for pod in pods)
    await until(lambda: len(links()) == VFS, BACK_S)


async def play() -> list[Finding]:
    for module in ("igb", "igbvf"):
        command("modprobe", module)
    (card,) = (path.parent.parent for path in LINKS.glob("*/device/sriov_totalvfs"))
    command("ip", "link", "set", card.name, "name", NIC)
    source = WrittenSource()
    source.ask(policy(VFS))
    began = time.monotonic()
    done = 0
    async with agent_with(source) as fault:
        await until_done(source, VFS)
        before, all_links = present(), len(list(LINKS.iterdir()))
        while done < CYCLES:
            count = min(VFS, CYCLES - done)
            await one_round(count)
            done += count
        source.reports.clear()
        source.ask(policy(VFS))
        await until_done(source, VFS)
        complaint = fault()
    (nic,) = (nic for nic in source.last.nics if nic.name == NIC)
    left = [path.name for path in NETNS.iterdir()] if NETNS.is_dir() else []
    leaks = {
        "virtual functions": VFS - len(present()),
        "namespaces": len(left),
        "links": len(list(LINKS.iterdir())) - all_links,
        "changed virtual functions": sum(
            one != other for one, other in zip(before, present(), strict=False)
        ),
        "other addresses": sum(vf.mac != default_mac(nic, vf.number) for vf in present()),
    }
    took_s = time.monotonic() - began
    text = f"{done} cycles in {took_s:.0f} s: {leaks} {complaint}"
    is_clean = not any(leaks.values()) and not complaint
    return [Finding(text, "" if is_clean else text)]


def boot() -> int:
    """Run it in the virtual machine; 0 if nothing is left."""
    findings, console = run_inside("tests.vm.vf_cycles", CYCLES_DEADLINE_S)
    sys.stdout.write("\n".join(finding.name for finding in findings) or console)
    return int(not findings or any(finding.fault for finding in findings))


if __name__ == "__main__":
    if sys.argv[1:]:
        write_findings(Path(sys.argv[1]), asyncio.run(play()))
    else:
        sys.exit(boot())
