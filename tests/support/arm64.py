"""Runs pytest on Debian's arm64 kernel in a virtual machine: ``scripts/arm64.sh system``.

Unlike qemu's user emulation, the machine has netlink, namespaces and eBPF. ``scripts/arm64.sh
setup`` makes the root file system.
"""

from __future__ import annotations

import shlex
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from tests.support.emulation import EMULATION_VARIABLE, MACHINE_EMULATION
from tests.support.uml import REPORTS_VARIABLE
from tests.support.vm import PROJECT_ROOT, Board, boot_command

ROOT: Final = PROJECT_ROOT / ".arm64/root"
DEADLINE_S: Final = 3 * 3600
"""The time limit of one run of pytest; emulation makes a test about fifty times slower."""

BOARD: Final = Board(
    program="qemu-system-aarch64",
    options=("-M", "virt", "-cpu", "max,pauth-impdef=on"),
    console="ttyAMA0",
    root=ROOT,
    kernels=ROOT,
    modules=("9p", "9pnet_virtio", "overlay"),
)
MODULES_FOR_TESTS: Final = (
    *("ipv6", "8021q", "bonding max_bonds=0", "dummy numdummies=0", "veth", "bridge", "macvlan"),
    *("ipvlan", "vrf", "nf_tables", "nft_ct", "nf_conntrack"),
)

SCRIPT: Final = """
ip link set lo up
{loading}
mount -t tmpfs tmp /tmp
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t bpf bpf /sys/fs/bpf
cd /src
export {reports}=/run/out/reports TMPDIR=/tmp {emulated}
python3 -m pytest -p no:cacheprovider {arguments}
echo $? >/run/out/status
"""


def run_tests(arguments: list[str]) -> int:
    """Return pytest's exit code, or 1 if pytest did not finish."""
    script = SCRIPT.format(
        loading="\n".join(f"modprobe {module}" for module in MODULES_FOR_TESTS),
        reports=REPORTS_VARIABLE,
        emulated=f"{EMULATION_VARIABLE}={MACHINE_EMULATION}",
        arguments=shlex.join(arguments),
    )
    with tempfile.TemporaryDirectory(prefix="ow-arm64-") as name:
        out = Path(name)
        command = boot_command(BOARD, script, out)
        subprocess.run(command, stdin=subprocess.DEVNULL, check=False, timeout=DEADLINE_S)
        status = out / "status"
        return int(status.read_text()) if status.exists() else 1


if __name__ == "__main__":
    sys.exit(run_tests(sys.argv[1:]))
