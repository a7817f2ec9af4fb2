"""The optional parts of a test run, such as programs, and the table of missing parts.

A test that needs a missing part is skipped with ``needs(part, ...)`` as its reason.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
from collections import Counter
from collections.abc import Generator, Iterator, Mapping
from typing import Final

import pytest

from ops.lab.programs import why_impossible

NAMESPACES: Final = "network namespaces"
USER_MODE: Final = "user-mode Linux"
VIRTUAL_MACHINE: Final = "virtual machine"
API_SERVER: Final = "kube-apiserver"
KUBELET: Final = "kubelet"
CONTROLLER_MANAGER: Final = "kube-controller-manager"
MULTUS_PLUGIN: Final = "Multus"
HELM: Final = "helm-python-sdk"
CONTAINERD: Final = "containerd"
HOST_LOCAL: Final = "host-local"
CGROUPS: Final = "control groups v2"
PROMETHEUS: Final = "prometheus"
LITTLE_ENDIAN: Final = "little-endian processor"
FAKETIME: Final = "libfaketime"
IMAGE_BUILDER: Final = "buildah"
ARM64: Final = "arm64 compiler and emulator"
MUSL: Final = "musl-gcc"
REAL_PROCESSOR: Final = "a processor that is not emulated"
SITE: Final = "mkdocs-material"
PUBLIC_DOCUMENTS: Final = "Spiderpool's documents"
SPIDERPOOL: Final = "Spiderpool"
CHROMIUM: Final = "Chromium"
EARLIER_COMMIT: Final = "an earlier commit"
FOREIGN_DEFINITIONS: Final = "definitions of other projects"
BINFMT: Final = "programs of arm64"
MINUTES_FOR_A_BUILD: Final = "minutes for a build"

_INSTALLED_BY_SETUP: Final = "scripts/setup.sh dev installs it (Debian's {})"
_ASSETS: Final = "into KUBEBUILDER_ASSETS or /usr/local/kubebuilder/bin"

REMEDIES: Final[Mapping[str, str]] = {
    NAMESPACES: "run as root, with what scripts/setup.sh dev installs",
    CONTAINERD: _INSTALLED_BY_SETUP.format("containerd and runc"),
    HOST_LOCAL: _INSTALLED_BY_SETUP.format("containernetworking-plugins"),
    CGROUPS: "mount cgroup2, on a kernel with BPF for control groups",
    "iptables": _INSTALLED_BY_SETUP.format("iptables"),
    CHROMIUM: "apt-get install chromium",
    "etcdutl": _INSTALLED_BY_SETUP.format("etcd-server"),
    PROMETHEUS: _INSTALLED_BY_SETUP.format("prometheus"),
    USER_MODE: "scripts/setup.sh dev on amd64; where it does not boot, make test-vm",
    VIRTUAL_MACHINE: "make test-vm fetches qemu and a kernel (200 MB)",
    API_SERVER: f"setup-envtest brings kube-apiserver and kubectl {_ASSETS}",
    CONTROLLER_MANAGER: f"put kube-controller-manager of Kubernetes 1.34 {_ASSETS}",
    KUBELET: f"put all programs of Kubernetes 1.34 {_ASSETS}",
    MULTUS_PLUGIN: "put the program multus into /opt/cni/bin",
    HELM: "use a platform that helm-python-sdk has a wheel for",
    LITTLE_ENDIAN: "run on amd64 or arm64",
    FAKETIME: _INSTALLED_BY_SETUP.format("libfaketime"),
    SITE: "scripts/setup.sh dev installs it, or scripts/setup.sh docs",
    IMAGE_BUILDER: _INSTALLED_BY_SETUP.format("buildah, netavark and mmdebstrap"),
    PUBLIC_DOCUMENTS: "set ORBWEAVER_SPIDERPOOL_REPOSITORY to a clone of Spiderpool's repository",
    SPIDERPOOL: "build it (docs/contributing/testing.md) and set SPIDERPOOL_BUILD to its directory",
    FOREIGN_DEFINITIONS: "set ORBWEAVER_FOREIGN_DEFINITIONS to a directory of them"
    " (docs/contributing/testing.md)",
    EARLIER_COMMIT: "fetch the whole history: git fetch --unshallow",
    BINFMT: "apt-get install qemu-user-binfmt arch-test",
    MINUTES_FOR_A_BUILD: "set ORBWEAVER_REPRODUCE_IMAGES or ORBWEAVER_TWO_ARCHITECTURES to 1",
    MUSL: _INSTALLED_BY_SETUP.format("musl-tools") + "; unset CC",
    REAL_PROCESSOR: "run make test without emulation",
    ARM64: "apt-get install gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user",
}
"""Each optional part, and how to get it."""

INSTALLED_IN_CI: Final = frozenset({CONTAINERD, "etcdutl", FAKETIME, PROMETHEUS, SITE})
"""Parts that scripts/setup.sh installs; in CI a missing part fails the test."""

SUBSTITUTE: Final = "substitute"
"""The pytest user property for a missing part and the substitute."""

_REASON: Final = re.compile(
    rf"(?:Skipped: )?needs ({'|'.join(map(re.escape, REMEDIES))})(?:: (.*))?", re.DOTALL
)
REASON_CHARACTERS_MAX: Final = 200


def needs(part: str, detail: str = "") -> str:
    """The reason of a skip. Raises KeyError for an unknown part."""
    assert REMEDIES[part]
    return f"needs {part}: {detail}" if detail else f"needs {part}"


def require_namespaces() -> None:
    """Skip the test if network namespaces cannot be used here; in CI fail the test."""
    why = why_impossible()
    if why:
        _skip_or_fail(needs(NAMESPACES, why))


def require_containers() -> None:
    require_namespaces()
    missing = [name for name in ("containerd", "runc", "ctr") if not shutil.which(name)]
    if missing:
        _skip_or_fail(needs(CONTAINERD, f"not installed: {', '.join(missing)}"))


def require_site_packages() -> None:
    missing = [name for name in ("mkdocs", "material") if not importlib.util.find_spec(name)]
    if missing:
        _skip_or_fail(needs(SITE, f"not installed: {', '.join(missing)}"))


def _skip_or_fail(reason: str) -> None:
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


def note_substitute(item: pytest.Item, part: str, substitute: str) -> None:
    assert REMEDIES[part]
    item.user_properties.append((SUBSTITUTE, (part, substitute)))


class FailInCI:
    """In CI, turns a skip for a part of ``INSTALLED_IN_CI`` into a failure."""

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        is_skipped = report.skipped and not hasattr(report, "wasxfail")
        if is_skipped and _read_reason(report)[0] in INSTALLED_IN_CI:
            report.longrepr = f"in CI this test must run: {report.longrepr}"
            report.outcome = "failed"
        return report


class MissingPartsTable:
    """Prints each missing part, the number of affected tests, and the remedy."""

    def __init__(self) -> None:
        self._skipped: Counter[tuple[str, str]] = Counter()
        self._substituted: Counter[tuple[str, str]] = Counter()
        self._details: dict[tuple[str, str], str] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.skipped and not hasattr(report, "wasxfail"):
            self._count(report, "tests")
        elif report.when == "call":
            for name, value in report.user_properties:
                if name == SUBSTITUTE and isinstance(value, list | tuple):
                    self._substituted[(str(value[0]), str(value[1]))] += 1

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Count a skipped file; its number of tests is unknown."""
        if report.skipped:
            self._count(report, "files")

    def _count(self, report: pytest.TestReport | pytest.CollectReport, unit: str) -> None:
        part, detail = _read_reason(report)
        self._skipped[(part, unit)] += 1
        if detail:
            self._details.setdefault((part, unit), detail)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_terminal_summary(
        self, terminalreporter: pytest.TerminalReporter
    ) -> Generator[None, None, None]:
        yield
        if self._skipped or self._substituted:
            terminalreporter.section("not tried on this machine")
            for line in self._lines():
                terminalreporter.write_line(line)

    def _lines(self) -> Iterator[str]:
        rows = [("missing", "not tried", "how to get it", "")]
        for (part, unit), count in sorted(self._skipped.items()):
            remedy = REMEDIES.get(part, "see the reason")
            rows.append((part, f"{count} {unit}", remedy, self._details.get((part, unit), "")))
        for (part, substitute), count in sorted(self._substituted.items()):
            rows.append((part, f"{count} ran on {substitute}", REMEDIES[part], ""))
        widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
        for part, count_text, remedy, detail in rows:
            yield f"{part:{widths[0]}}  {count_text:{widths[1]}}  {remedy}"
            if detail:
                yield f" because: {detail}"


def _read_reason(report: pytest.TestReport | pytest.CollectReport) -> tuple[str, str]:
    """Return the missing part and the detail; if no part is named, the reason's text and ""."""
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    match = _REASON.fullmatch(reason)
    if match is None:
        return reason.removeprefix("Skipped: ")[:REASON_CHARACTERS_MAX], ""
    return match[1], " ".join((match[2] or "").split())[:REASON_CHARACTERS_MAX]
