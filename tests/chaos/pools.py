"""Changes that operators make to pools, addresses and the archive during a run."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Final

from tests.chaos.pods import BASE_POOL, changing_pool

ORBCTL: Final = str(Path(sys.executable).with_name("orbctl"))
ORBCTL_S: Final = 60.0
FINAL_POOL: Final = "final"
EXIT_NOT_FOUND: Final = 4
POLL_S: Final = 1.0
BASE_RANGE: Final = "10.6.1.1-10.6.1.90"
LARGE_SIZE: Final = 14
"""Number of addresses of a changing pool."""

SMALL_SIZE: Final = 6
"""Number of addresses after the change "shrink"."""

MANIFEST_START: Final = "apiVersion: spiderpool.spidernet.io/v2beta1\nkind: "


class Operator:
    """Runs ``orbctl``, which connects to etcd without the proxies."""

    def __init__(self, endpoints: tuple[str, ...], archive: Path) -> None:
        inherited = {
            name: value for name, value in os.environ.items() if not name.startswith("ORBWEAVER_")
        }
        self._environment = inherited | {
            "ORBWEAVER_ETCD_ENDPOINTS": ",".join(endpoints),
            "ORBWEAVER_ARCHIVE_DIR": str(archive),
        }
        self._shapes: dict[int, tuple[int, bool]] = {}
        """Changing pool -> (number of addresses, whether the pool is disabled)."""

        self.counts: Counter[str] = Counter()

    async def set_up(self) -> None:
        text = _pool(BASE_POOL, "10.6.0.0/16", BASE_RANGE, disabled=False)
        code, output = await self.orbctl("apply", "-f", "-", stdin=text)
        assert code == 0, output

    async def change(self, kind: str, number: int) -> None:
        """Request a change, which orbctl may refuse."""
        arguments, stdin = self._command(kind, number)
        code, _ = await self.orbctl(*arguments, stdin=stdin)
        self.counts[f"pool {kind} {'done' if code == 0 else 'refused'}"] += 1

    async def can_retire_a_pool(self, deadline_s: float) -> bool:
        text = _pool(FINAL_POOL, "10.8.0.0/24", "10.8.0.1-10.8.0.9", disabled=False)
        await self.orbctl("apply", "-f", "-", stdin=text)
        await self.orbctl("retire", "pool", FINAL_POOL)
        deadline = time.monotonic() + deadline_s
        while time.monotonic() < deadline:
            code, _ = await self.orbctl("get", "pool", FINAL_POOL)
            if code == EXIT_NOT_FOUND:
                return True
            await asyncio.sleep(POLL_S)
        return False

    async def orbctl(self, *arguments: str, stdin: str = "") -> tuple[int, str]:
        """Return the exit code (-1 after a timeout) and the output."""
        process = await asyncio.create_subprocess_exec(
            ORBCTL,
            *arguments,
            env=self._environment,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        try:
            async with asyncio.timeout(ORBCTL_S):
                printed, _ = await process.communicate(stdin.encode())
        except TimeoutError:
            process.kill()
            await process.wait()
            return -1, f"orbctl {' '.join(arguments)}: not done within {ORBCTL_S} s"
        return process.returncode or 0, printed.decode(errors="replace")

    def _command(self, kind: str, number: int) -> tuple[tuple[str, ...], str]:
        """The arguments and the standard input of orbctl."""
        name = changing_pool(number)
        address = f"10.7.{number}.5"
        commands = {
            "archive": ("archive",),
            "delete": ("delete", "pool", name),
            "free": ("delete", "reservation", f"held-{number}"),
            "lift": ("quarantine", "lift", address),
            "retire": ("retire", "pool", name),
            "quarantine": ("quarantine", "add", address, "--reason", "chaos"),
        }
        if kind in commands:
            return commands[kind], ""
        if kind == "reserve":
            return ("apply", "-f", "-"), _reservation(number)
        size, disabled = self._shapes.get(number, (LARGE_SIZE, False))
        size = {"create": LARGE_SIZE, "grow": LARGE_SIZE, "shrink": SMALL_SIZE}.get(kind, size)
        disabled = {"disable": True, "enable": False, "create": False}.get(kind, disabled)
        self._shapes[number] = size, disabled
        addresses = f"10.7.{number}.1-10.7.{number}.{size}"
        return ("apply", "-f", "-"), _pool(
            name, f"10.7.{number}.0/24", addresses, disabled=disabled
        )


def _reservation(number: int) -> str:
    return (
        f"{MANIFEST_START}SpiderReservedIP\nmetadata: {{name: held-{number}}}\n"
        f"spec: {{ips: [10.7.{number}.3]}}\n"
    )


def _pool(name: str, subnet: str, addresses: str, *, disabled: bool) -> str:
    return (
        f"{MANIFEST_START}SpiderIPPool\nmetadata: {{name: {name}}}\n"
        f"spec: {{subnet: {subnet}, ips: ['{addresses}'], disable: {str(disabled).lower()}}}\n"
    )
