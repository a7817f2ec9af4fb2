"""Tests that need what the host's kernel may lack, run in one user-mode Linux for all of them.

A test marked ``uml`` runs inside: the first one that a run comes to boots Debian's user-mode kernel
on this machine's own files (read-only), which runs every marked test of the collected files in one
pytest and hands its reports out as JSON lines. Outside, each test then reports what was said of it
inside, so that a run looks like any other. Of the workers of ``tests/support/folders.py`` one
boots for all. Without the kernel they are skipped, with the reason.

The hooks here are hooks of ``tests/conftest.py``.
"""

from __future__ import annotations

import fcntl
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest

from tests.support.folders import shared_directory

MARK: Final = "uml"
PROGRAM: Final = "linux.uml"
MODULES: Final = Path("/usr/lib/uml/modules")
MISSING: Final = (
    "needs user-mode Linux (Debian's user-mode-linux and kmod; scripts/setup.sh dev installs them)"
)
REPORTS_VARIABLE: Final = "ORBWEAVER_UML_REPORTS"
"""Set inside: the file that reports go to."""

BOOT_DEADLINE_S: Final = 300
MEMORY: Final = "768M"
LOADED: Final = (
    *("ipv6", "8021q", "bonding max_bonds=0", "dummy numdummies=0"),
    *("veth", "bridge", "macvlan", "ipvlan", "vrf"),
    # No nftables for IP there: marks and Services are iptables' in its old way.
    *("iptable_mangle", "ip6table_mangle", "iptable_nat", "ip6table_nat"),
    *("xt_conntrack", "xt_mark", "xt_connmark", "xt_nat", "xt_MASQUERADE", "xt_tcpudp"),
)
TAIL_CHARACTERS: Final = 4_000


class Said(NamedTuple):
    """What one boot came to: reports by test, and the console's end."""

    results: Mapping[str, list[dict[str, Any]]]
    console: str


_SAID: Final = pytest.StashKey[Said]()

INIT: Final = """#!/bin/sh
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t tmpfs tmpfs /run
release=$(uname -r)
mkdir -p /run/root/lib/modules /run/out /run/netns
ln -s {modules}/$release /run/root/lib/modules/$release
{loading}
mount -t hostfs none /run/out -o hostfs={out}
ip link set lo up
cd {directory}
export {environment}
{command} >/run/out/console 2>&1
echo o >/proc/sysrq-trigger
sleep 10
"""


def is_inside() -> bool:
    """Whether this process is in user-mode Linux."""
    return REPORTS_VARIABLE in os.environ


def why_not() -> str:
    """Why nothing can be booted here; "" if it can."""
    tools = shutil.which(PROGRAM) and shutil.which("modprobe")
    return "" if tools and MODULES.is_dir() else MISSING


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


def pytest_configure(config: pytest.Config) -> None:
    """Inside, remember what comes out."""
    if is_inside():
        config.pluginmanager.register(Recorder(config, Path(os.environ[REPORTS_VARIABLE])))


# ------------------------------------------------------------------------------------ outside


def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
    """Outside, report for a marked test what was said of it inside."""
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
    missing = why_not()
    if missing:
        path, line, _ = item.location
        return [_made(item, "skipped", (path, line or 0, f"Skipped: {missing}"))]
    config = item.config
    if _SAID not in config.stash:
        config.stash[_SAID] = _once(item.session)
    results, console = config.stash[_SAID]
    said = results.get(item.nodeid)
    if not said:
        text = f"user-mode Linux said nothing of this test; its console:\n{console}"
        return [_made(item, "failed", text)]
    return [
        config.hook.pytest_report_from_serializable(config=config, data=report) for report in said
    ]


def _once(session: pytest.Session) -> Said:
    """What one boot came to; of several workers the first one boots, the others wait for it."""
    shared = shared_directory(session.config)
    if shared is None:
        return _boot(session)
    kept = shared / "said-in-user-mode-linux.json"
    with (shared / "user-mode-linux.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not kept.exists():
            kept.write_text(json.dumps(_boot(session)))
        return Said(*json.loads(kept.read_text()))


def _made(item: pytest.Item, outcome: Any, longrepr: Any) -> pytest.TestReport:
    return pytest.TestReport(item.nodeid, item.location, {}, outcome, longrepr, "setup")


def _boot(session: pytest.Session) -> Said:
    """Run every marked test of the session inside."""
    files = {str(item.path) for item in session.items if item.get_closest_marker(MARK)}
    out = Path(tempfile.mkdtemp(prefix="ow-uml-"))
    try:
        init = out / "init.sh"
        init.write_text(_init(out, sorted(files), session.config.rootpath))
        init.chmod(0o755)
        console = _run(init)
        inside = out / "console"
        console += inside.read_text(errors="replace") if inside.exists() else ""
        results: dict[str, list[dict[str, Any]]] = {}
        reports = out / "reports"
        for line in reports.read_text().splitlines() if reports.exists() else ():
            report = json.loads(line)
            results.setdefault(report["nodeid"], []).append(report)
        return Said(results, console[-TAIL_CHARACTERS:])
    finally:
        shutil.rmtree(out)


def _init(out: Path, files: list[str], directory: Path) -> str:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", MARK, *files]
    environment = {
        REPORTS_VARIABLE: "/run/out/reports",
        "PYTHONDONTWRITEBYTECODE": "1",
        "TMPDIR": "/run",
        "HOME": "/run",
        "PATH": os.environ.get("PATH", "") + ":/usr/sbin:/sbin",
    }
    return INIT.format(
        modules=MODULES,
        loading="\n".join(f"modprobe -d /run/root {module}" for module in LOADED),
        out=shlex.quote(str(out)),
        directory=shlex.quote(str(directory)),
        environment=" ".join(f"{key}={shlex.quote(value)}" for key, value in environment.items()),
        command=shlex.join(command),
    )


def _run(init: Path) -> str:
    """Boot until it switches itself off; what the kernel had to say."""
    # One CPU: on several the same run takes three times as long (its processes are one thread).
    cpu = max(os.sched_getaffinity(0))
    kernel = [
        *("taskset", "-c", str(cpu), PROGRAM, f"mem={MEMORY}", "rootfstype=hostfs"),
        *("root=/dev/root", "rootflags=/", "ro", f"init={init}", "con=null", "con0=fd:0,fd:1"),
        "quiet",
    ]
    memory = "/dev/shm" if Path("/dev/shm").is_dir() else tempfile.gettempdir()
    try:
        done = subprocess.run(
            kernel,
            env=os.environ | {"TMPDIR": memory},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            timeout=BOOT_DEADLINE_S,
        )
    except subprocess.TimeoutExpired as late:
        return f"not done within {BOOT_DEADLINE_S} s\n" + (late.stdout or b"").decode(
            errors="replace"
        )
    return (done.stdout + done.stderr).decode(errors="replace")
