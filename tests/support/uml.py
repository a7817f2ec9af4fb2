"""Tests that need what the host's kernel may lack, run in one user-mode Linux for all of them.

A test marked ``uml`` runs inside: the first one that a run comes to boots a machine on this
machine's own files (read-only), which runs every marked test of the collected files in one pytest
and hands its reports out as JSON lines. Outside, each test then reports what came out inside, so
that a run looks like any other. The machine is Debian's user-mode kernel; where that does not boot,
the virtual machine of ``make test-vm``; without both the tests are skipped, with the reason. Of the
workers of ``tests/support/folders.py`` one runs all files with such tests, before all others.

The hooks here are hooks of ``tests/conftest.py``.
"""

from __future__ import annotations

import fcntl
import json
import os
import shlex
import shutil
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol

import pytest

from tests.support.folders import shared_directory
from tests.support.parts import USER_MODE, needs, note_substitute
from tests.support.user_mode import UserModeLinux
from tests.support.vm import VirtualMachine

MARK: Final = "uml"
REPORTS_VARIABLE: Final = "ORBWEAVER_UML_REPORTS"
"""Set inside: the file that reports go to."""

LOADED: Final = (
    *("ipv6", "8021q", "bonding max_bonds=0", "dummy numdummies=0"),
    *("veth", "bridge", "macvlan", "ipvlan", "vrf"),
    # Where the kernel has no nftables for IP, marks and Services are iptables' in its old way.
    *("iptable_mangle", "ip6table_mangle", "iptable_nat", "ip6table_nat"),
    *("xt_conntrack", "xt_mark", "xt_connmark", "xt_nat", "xt_MASQUERADE", "xt_tcpudp"),
)
TAIL_CHARACTERS: Final = 4_000


class Machine(Protocol):
    """What boots, runs a script and switches itself off."""

    @property
    def name(self) -> str:
        """What the last lines of a run call it."""
        ...

    def why_not(self) -> str:
        """Why it cannot be booted here; "" if it can."""
        ...

    def run(self, script: str, out: Path) -> str:
        """Run the script with ``out`` at /run/out: what its console showed."""
        ...


MACHINES: Final[tuple[Machine, ...]] = (UserModeLinux(), VirtualMachine())
"""In order of preference."""


class BootResult(NamedTuple):
    """What one boot came to: reports by test, the console's end, and which machine it was.

    Without a machine ``why_not`` is the reason.
    """

    results: Mapping[str, list[dict[str, Any]]]
    console: str
    machine: str = ""
    why_not: str = ""


_RESULT: Final = pytest.StashKey[BootResult]()

SCRIPT: Final = """
ip link set lo up
{loading}
cd {directory}
export {environment}
{command} >/run/out/console 2>&1
"""


def is_inside() -> bool:
    """Whether this process is in the machine."""
    return REPORTS_VARIABLE in os.environ


# ------------------------------------------------------------------------------------- inside


class Recorder:
    """Writes every report to the file that outlives the machine."""

    def __init__(self, config: pytest.Config, path: Path) -> None:
        self._config = config
        self._path = path

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        data = self._config.hook.pytest_report_to_serializable(config=self._config, report=report)
        with self._path.open("a") as file:
            file.write(json.dumps(data) + "\n")


def record_inside(config: pytest.Config) -> None:
    """Inside, remember what comes out."""
    if is_inside():
        config.pluginmanager.register(Recorder(config, Path(os.environ[REPORTS_VARIABLE])))


# ------------------------------------------------------------------------------------ outside


def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
    """Outside, report for a marked test what came out inside."""
    if is_inside() or item.get_closest_marker(MARK) is None:
        return None
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    for report in _reports(item):
        item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    # The test before has kept what this one's folder shares with it; the next may share nothing.
    item.session._setupstate.teardown_exact(nextitem)
    return True


def _reports(item: pytest.Item) -> list[pytest.TestReport]:
    config = item.config
    if _RESULT not in config.stash:
        config.stash[_RESULT] = _once(item.session)
    result = config.stash[_RESULT]
    if result.why_not:
        path, line, _ = item.location
        return [_made(item, "skipped", (path, line or 0, f"Skipped: {result.why_not}"))]
    found = result.results.get(item.nodeid)
    if not found:
        text = f"no report of this test from {result.machine}; its console:\n{result.console}"
        return [_made(item, "failed", text)]
    if result.machine != USER_MODE:
        note_substitute(item, USER_MODE, result.machine)
    restore = config.hook.pytest_report_from_serializable
    reports: list[pytest.TestReport] = [restore(config=config, data=data) for data in found]
    for report in reports:
        report.user_properties.extend(item.user_properties)
    return reports


def _once(session: pytest.Session) -> BootResult:
    """What one boot came to; of several workers the first one boots, the others wait for it."""
    shared = shared_directory(session.config)
    if shared is None:
        return _boot(session)
    kept = shared / "result-of-the-machine.json"
    with (shared / "machine.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not kept.exists():
            kept.write_text(json.dumps(_boot(session)))
        return BootResult(*json.loads(kept.read_text()))


def _made(item: pytest.Item, outcome: Any, longrepr: Any) -> pytest.TestReport:
    return pytest.TestReport(item.nodeid, item.location, {}, outcome, longrepr, "setup")


def _boot(session: pytest.Session) -> BootResult:
    """Run every marked test of the session in the first machine that boots here."""
    faults = []
    for machine in MACHINES:
        fault = machine.why_not()
        if not fault:
            return _run(machine, session)
        faults.append(f"{machine.name}: {fault}")
    return BootResult({}, "", why_not=needs(USER_MODE, "; ".join(faults)))


def _run(machine: Machine, session: pytest.Session) -> BootResult:
    files = {str(item.path) for item in session.items if item.get_closest_marker(MARK)}
    out = Path(tempfile.mkdtemp(prefix="ow-uml-"))
    try:
        console = machine.run(_script(sorted(files), session.config.rootpath), out)
        inside = out / "console"
        console += inside.read_text(errors="replace") if inside.exists() else ""
        results: dict[str, list[dict[str, Any]]] = {}
        reports = out / "reports"
        for line in reports.read_text().splitlines() if reports.exists() else ():
            report = json.loads(line)
            results.setdefault(report["nodeid"], []).append(report)
        return BootResult(results, console[-TAIL_CHARACTERS:], machine.name)
    finally:
        shutil.rmtree(out)


def _script(files: list[str], directory: Path) -> str:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", MARK, *files]
    environment = {
        REPORTS_VARIABLE: "/run/out/reports",
        "PYTHONDONTWRITEBYTECODE": "1",
        "TMPDIR": "/run",
        "HOME": "/run",
        "PATH": os.environ.get("PATH", "") + ":/usr/sbin:/sbin",
    }
    return SCRIPT.format(
        loading="\n".join(f"modprobe {module}" for module in LOADED),
        directory=shlex.quote(str(directory)),
        environment=" ".join(f"{key}={shlex.quote(value)}" for key, value in environment.items()),
        command=shlex.join(command),
    )
