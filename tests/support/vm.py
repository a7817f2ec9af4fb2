"""A virtual machine with an SR-IOV card and Debian's kernel; qemu emulates all hardware.

The root of the machine is the host's file system, read-only below a layer in memory. A Python
module runs scenarios in the machine and writes findings as JSON. It does not use pytest, whose
start would take longer than all scenarios.
"""

from __future__ import annotations

import json
import lzma
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from tests.support.parts import VIRTUAL_MACHINE

PROJECT_ROOT: Final = Path(__file__).resolve().parents[2]
KERNELS: Final = PROJECT_ROOT / ".vm"
"""The directory into which ``scripts/vm-kernel.sh`` unpacks."""

MISSING: Final = "no qemu, busybox or kernel to boot"
BOOT_DEADLINE_S: Final = 600
MEMORY_MIB: Final = 1024
TAIL_CHARACTERS: Final = 6_000
BUSYBOX: Final = "/bin/busybox"


class Board(NamedTuple):
    """A computer that qemu emulates.

    ``root``, ``kernels``: directories of the host; ``kernels`` has ``boot/vmlinuz-*``.
    ``modules``: the kernel modules that mount the root.
    """

    program: str
    options: tuple[str, ...]
    console: str
    root: Path
    kernels: Path
    modules: tuple[str, ...]
    boot_words: str = ""

    @property
    def kernel(self) -> Path | None:
        """The newest kernel."""
        return max(self.kernels.glob("boot/vmlinuz-*"), default=None)


AMD64: Final = Board(
    program="qemu-system-x86_64",
    options=(
        # vfio needs an IOMMU.
        *("-M", "q35", "-cpu", "max", "-device", "intel-iommu"),
        # An SR-IOV card and a plain NIC, connected by a hub.
        *("-device", "pcie-root-port,id=port0,chassis=1,slot=1"),
        *("-netdev", "hubport,hubid=1,id=wire1", "-device", "igb,bus=port0,netdev=wire1"),
        *("-netdev", "hubport,hubid=1,id=wire2", "-device", "virtio-net-pci,netdev=wire2"),
    ),
    console="ttyS0",
    root=Path("/"),
    kernels=KERNELS,
    modules=("9p", "9pnet_virtio", "overlay"),
    # no_timer_check: a busy host delays the ticks of the timer check.
    boot_words="intel_iommu=on iommu=pt no_timer_check",
)

_REGULAR: Final = 0o100_755
_DIRECTORY: Final = 0o040_755

INIT: Final = """#!{busybox} sh
b={busybox}
for name in proc sys dev lower layer root; do $b mkdir -p /$name; done
$b mount -t proc proc /proc
$b mount -t sysfs sysfs /sys
$b mount -t devtmpfs dev /dev
for module in {modules}; do $b insmod /modules/$module; done
options=trans=virtio,version=9p2000.L,msize=512000,cache=loose
$b mount -t 9p -o ro,$options host /lower
$b mount -t tmpfs layer /layer
$b mkdir /layer/upper /layer/work
$b mount -t overlay -o lowerdir=/lower,upperdir=/layer/upper,workdir=/layer/work root /root
release=$($b uname -r)
$b mkdir -p /root/usr/lib/modules/$release
$b mount --bind /root{kernels}/usr/lib/modules/$release /root/usr/lib/modules/$release
for name in proc sys dev; do $b mount --move /$name /root/$name; done
$b mount -t tmpfs run /root/run
$b mkdir -p /root/run/netns /root/run/out
$b mount -t 9p -o $options out /root/run/out
exec $b switch_root /root /bin/sh /run/out/inside.sh
"""

INSIDE: Final = """
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/run PYTHONDONTWRITEBYTECODE=1
sh /run/out/script.sh
{busybox} poweroff -f
"""

MODULE_SCRIPT: Final = """
ip link set lo up
cd {project}
{python} -m {module} /run/out/findings.json {arguments}
"""

HOST_ADDRESS: Final = "10.0.2.2"
"""Inside the machine, connections to this address reach the host's loopback."""

HOST_MAC: Final = "52:54:00:0a:00:02"
HOST_NIC: Final = (
    *("-netdev", "user,id=host,ipv6=off"),
    *("-device", f"virtio-net-pci,netdev=host,mac={HOST_MAC}"),
)
"""A NIC with qemu's user-mode networking."""


class Finding(NamedTuple):
    """The result of one scenario: "" if it passed, otherwise the traceback."""

    name: str
    fault: str


class VirtualMachine:
    """Runs a script in the virtual machine ``AMD64``."""

    name: Final = VIRTUAL_MACHINE

    @staticmethod
    def why_not() -> str:
        """Why the machine cannot boot here; "" if it can."""
        tools = shutil.which(AMD64.program) and Path(BUSYBOX).exists()
        return "" if tools and AMD64.kernel else MISSING

    @staticmethod
    def run(
        script: str, out: Path, deadline_s: float = BOOT_DEADLINE_S, options: Sequence[str] = ()
    ) -> str:
        """Run the script with ``out`` at /run/out; return the console output."""
        return _captured([*boot_command(AMD64, script, out), *options], deadline_s)


def boot_command(board: Board, script: str, out: Path) -> list[str]:
    """The qemu command that runs the script and powers off; ``out`` is at /run/out."""
    kernel = board.kernel
    assert kernel is not None, MISSING
    initial = out / "initramfs"
    initial.write_bytes(_initramfs(board, kernel))
    (out / "script.sh").write_text(script)
    (out / "inside.sh").write_text(INSIDE.format(busybox=BUSYBOX))
    share = "security_model=none,multidevs=remap"
    return [
        *(board.program, *board.options, "-accel", "tcg,thread=multi", "-smp", "1"),
        *("-m", str(MEMORY_MIB), "-nographic", "-no-reboot", "-nodefaults", "-serial", "stdio"),
        *("-kernel", str(kernel), "-initrd", str(initial)),
        *(
            "-append",
            f"console={board.console} quiet panic=-1 mitigations=off nokaslr {board.boot_words}",
        ),
        *("-virtfs", f"local,path={board.root},mount_tag=host,readonly=on,{share}"),
        *("-virtfs", f"local,path={out},mount_tag=out,{share}"),
    ]


def run_module_in_vm(
    module: str,
    *arguments: str,
    deadline_s: float = BOOT_DEADLINE_S,
    options: Sequence[str] = (),
) -> tuple[list[Finding], str]:
    """Run ``python -m module FILE ARGUMENTS``; return findings and console output."""
    with tempfile.TemporaryDirectory(prefix="ow-vm-") as name:
        out = Path(name)
        words = {"project": PROJECT_ROOT, "python": sys.executable, "module": module}
        quoted_words = {key: shlex.quote(str(value)) for key, value in words.items()}
        script = MODULE_SCRIPT.format(**quoted_words, arguments=shlex.join(arguments))
        console = VirtualMachine.run(script, out, deadline_s, options)
        findings = out / "findings.json"
        documents = json.loads(findings.read_text()) if findings.exists() else []
        return [Finding(*document) for document in documents], console[-TAIL_CHARACTERS:]


def _captured(command: list[str], deadline_s: float) -> str:
    try:
        completed = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
            timeout=deadline_s,
        )
    except subprocess.TimeoutExpired as timeout:
        printed = (timeout.stdout or b"").decode(errors="replace")
        return f"{printed}\nnot finished within {deadline_s:g} s"
    return completed.stdout.decode(errors="replace")


# ---------------------------------------------------------------------------------- initramfs


def _initramfs(board: Board, kernel: Path) -> bytes:
    release = kernel.name.removeprefix("vmlinuz-")
    modules = board.kernels / "usr/lib/modules" / release
    module_files = list(_with_dependencies(modules, board.modules))
    names = " ".join(path.name.removesuffix(".xz") for path in module_files)
    inside = "/" / board.kernels.relative_to(board.root)
    init = INIT.format(busybox=BUSYBOX, modules=names, kernels=inside)
    entries = [
        ("bin", _DIRECTORY, b""),
        (BUSYBOX.lstrip("/"), _REGULAR, (board.root / BUSYBOX.lstrip("/")).read_bytes()),
        ("init", _REGULAR, init.encode()),
        ("modules", _DIRECTORY, b""),
        *(
            (f"modules/{path.name.removesuffix('.xz')}", _REGULAR, _module(path))
            for path in module_files
        ),
        ("TRAILER!!!", 0, b""),
    ]
    return b"".join(_entry(number, *entry) for number, entry in enumerate(entries, 1))


def _module(path: Path) -> bytes:
    data = path.read_bytes()
    return lzma.decompress(data) if path.suffix == ".xz" else data


def _with_dependencies(modules: Path, names: Iterable[str]) -> Iterator[Path]:
    """Each module after its dependencies (modules.dep, depmod(8))."""
    needs: dict[str, list[str]] = {}
    for line in (modules / "modules.dep").read_text().splitlines():
        path, _, others = line.partition(":")
        needs[Path(path).name.partition(".")[0]] = [path, *others.split()]
    yielded_paths: set[str] = set()
    for name in names:
        for path in reversed(needs[name]):
            if path not in yielded_paths:
                yielded_paths.add(path)
                yield modules / path


def _entry(number: int, name: str, mode: int, data: bytes) -> bytes:
    """One file of a cpio archive (kernel documentation: initramfs buffer format)."""
    path = name.encode() + b"\0"
    fields = (number, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(path), 0)
    head = b"070701" + b"".join(b"%08X" % field for field in fields) + path
    return head + bytes(-len(head) % 4) + data + bytes(-len(data) % 4)


def write_findings(path: Path, findings: Iterable[Finding]) -> None:
    """Write the findings atomically."""
    temporary = path.with_suffix(".part")
    temporary.write_text(json.dumps(list(findings)))
    temporary.replace(path)
