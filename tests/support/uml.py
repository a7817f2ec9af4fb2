"""Runs the tests marked ``uml`` in a virtual machine, because the host's kernel may lack features.

The first of these tests boots the machine, whose root is the host's file system (read-only). A
pytest inside the machine runs all of them and writes reports as JSON lines. The pytest outside
reports these results as its own.
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
"""The variable with the path of the reports; set only inside the machine."""

KERNEL_MODULES: Final = (
    *("ipv6", "8021q", "bonding max_bonds=0", "dummy numdummies=0"),
    *("veth", "bridge", "macvlan", "ipvlan", "vrf"),
    # Without nftables for IP in the kernel, marks and Services use legacy iptables.
    *("iptable_mangle", "ip6table_mangle", "iptable_nat", "ip6table_nat"),
    *("xt_conntrack", "xt_mark", "xt_connmark", "xt_nat", "xt_MASQUERADE", "xt_tcpudp"),
)
TAIL_CHARACTERS: Final = 4_000


class Machine(Protocol):
    """A machine that boots, runs a script and powers off."""

    @property
    def name(self) -> str: ...

    def why_not(self) -> str:
        """Why the machine cannot boot here; "" if it can."""
        ...

    def run(self, script: str, out: Path) -> str:
        """Run the script with ``out`` at /run/out; return the console output."""
        ...


MACHINES: Final[tuple[Machine, ...]] = (UserModeLinux(), VirtualMachine())
"""The first machine that boots here runs the tests."""


class BootResult(NamedTuple):
    """The result of one boot.

    ``results``: node id of a test -> reports. ``why_not``: why no machine boots.
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
    """Whether this process runs in the virtual machine."""
    return REPORTS_VARIABLE in os.environ


# ------------------------------------------------------------------------------------- inside


class Recorder:
    """Writes every report to a file outside the machine."""

    def __init__(self, config: pytest.Config, path: Path) -> None:
        self._config = config
        self._path = path

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        data = self._config.hook.pytest_report_to_serializable(config=self._config, report=report)
        with self._path.open("a") as file:
            file.write(json.dumps(data) + "\n")


def register_recorder(config: pytest.Config) -> None:
    if is_inside():
        config.pluginmanager.register(Recorder(config, Path(os.environ[REPORTS_VARIABLE])))


# ------------------------------------------------------------------------------------ outside


def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
    """Outside the machine, report the recorded results of a test marked ``uml``."""
    if is_inside() or item.get_closest_marker(MARK) is None:
        return None
    # One boot runs all tests, so it may exceed the timeout of one test.
    item.config.hook.pytest_timeout_cancel_timer(item=item)
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    for report in _reports(item):
        item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    # Tear down the fixtures that the next test does not share.
    item.session._setupstate.teardown_exact(nextitem)
    return True


def _reports(item: pytest.Item) -> list[pytest.TestReport]:
    config = item.config
    if _RESULT not in config.stash:
        config.stash[_RESULT] = _shared_result(item.session)
    result = config.stash[_RESULT]
    if result.why_not:
        path, line, _ = item.location
        return [_report(item, "skipped", (path, line or 0, f"Skipped: {result.why_not}"))]
    recorded_reports = result.results.get(item.nodeid)
    if not recorded_reports:
        text = f"no report of this test from {result.machine}; console:\n{result.console}"
        return [_report(item, "failed", text)]
    if result.machine != USER_MODE:
        note_substitute(item, USER_MODE, result.machine)
    restore = config.hook.pytest_report_from_serializable
    reports: list[pytest.TestReport] = [
        restore(config=config, data=data) for data in recorded_reports
    ]
    for report in reports:
        report.user_properties.extend(item.user_properties)
    return reports


def _shared_result(session: pytest.Session) -> BootResult:
    """The first worker boots the machine; other workers wait for the result."""
    shared = shared_directory(session.config)
    if shared is None:
        return _boot(session)
    result_file = shared / "result-of-the-machine.json"
    with (shared / "machine.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not result_file.exists():
            result_file.write_text(json.dumps(_boot(session)))
        return BootResult(*json.loads(result_file.read_text()))


def _report(item: pytest.Item, outcome: Any, longrepr: Any) -> pytest.TestReport:
    return pytest.TestReport(item.nodeid, item.location, {}, outcome, longrepr, "setup")


def _boot(session: pytest.Session) -> BootResult:
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
        loading="\n".join(f"modprobe {module}" for module in KERNEL_MODULES),
        directory=shlex.quote(str(directory)),
        environment=" ".join(f"{key}={shlex.quote(value)}" for key, value in environment.items()),
        command=shlex.join(command),
    )
