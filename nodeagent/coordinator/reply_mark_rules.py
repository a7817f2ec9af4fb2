"""Firewall-mark rules in the Pod: replies to connections from veth0 leave through veth0.

Packets of other connections keep the mark that the Pod has set (SO_MARK). If the kernel has no
nftables, the node's iptables adds the rules. See docs/reference/coordinator.md, "Reply path".
"""

from __future__ import annotations

import shutil
import socket
import subprocess
from collections.abc import Callable, Iterable, Mapping
from errno import EEXIST
from typing import Final, Protocol, TypeVar

from core.domain.addresses.ip_address import Family
from core.errors import DatapathError, FirewallBusy, NetlinkRefused
from nodeagent.coordinator.attachment_plan import REPLY_MARK
from nodeagent.coordinator.network_stacks import POD_VETH
from nodeagent.netlink import nftables as nft
from nodeagent.netlink.codec import U32
from nodeagent.netlink.namespaces import NetnsExecutor, NetworkNamespace

T = TypeVar("T")

TABLE_NAME: Final = "orbweaver"
LOCK_S_MAX: Final = 4
"""Seconds that iptables waits for the lock that all iptables processes share."""

IPTABLES_S_MAX: Final = LOCK_S_MAX + 1.0
LOCKED: Final = 4
"""Exit status of iptables if it did not get the lock (xtables: RESOURCE_PROBLEM)."""

STDERR_CHARACTERS_MAX: Final = 300

_CHAINS: Final = (
    nft.Chain(
        name="prerouting",
        kind="filter",
        hook=nft.PREROUTING,
        priority=nft.MANGLE,
        rules=(
            (
                nft.load_meta(nft.META_IIFNAME),
                nft.equals(nft.interface_name(POD_VETH)),
                nft.load_ct(nft.CT_STATE),
                *nft.has_bits(nft.CT_STATE_NEW),
                nft.put(U32.pack(REPLY_MARK)),
                nft.set_meta(nft.META_MARK),
            ),
            (
                nft.load_meta(nft.META_MARK),
                nft.equals(U32.pack(REPLY_MARK)),
                nft.set_ct(nft.CT_MARK),
            ),
        ),
    ),
    # Kind "route": the kernel routes a packet again after its mark has changed.
    nft.Chain(
        name="output",
        kind="route",
        hook=nft.OUTPUT,
        priority=nft.MANGLE,
        rules=(
            (
                nft.load_ct(nft.CT_MARK),
                nft.equals(U32.pack(REPLY_MARK)),
                nft.set_meta(nft.META_MARK),
            ),
        ),
    ),
)
_EXPECTED_RULES: Final = (
    "prerouting meta cmp ct bitwise cmp immediate meta",
    "prerouting meta cmp ct",
    "output ct cmp meta",
)
"""``_CHAINS`` in the form of ``nft.rules_in``: chain, then names of expressions."""

_IPTABLES: Final[dict[Family, str]] = {4: "iptables", 6: "ip6tables"}
_IPTABLES_RULES: Final = (
    f"PREROUTING -i {POD_VETH} -m conntrack --ctstate NEW -j MARK --set-xmark {REPLY_MARK:#x}",
    f"PREROUTING -m mark --mark {REPLY_MARK:#x} -j CONNMARK --save-mark",
    f"OUTPUT -m connmark --mark {REPLY_MARK:#x} -j CONNMARK --restore-mark",
)

_EARLIER_RULES: Final = {
    _EXPECTED_RULES[-1]: "output ct meta",
    _IPTABLES_RULES[-1]: "OUTPUT -j CONNMARK --restore-mark",
}
"""Earlier forms of current rules. CHECK accepts both: Pods that started before an upgrade have the
earlier forms."""


class ReplyMarkRules(Protocol):
    """Adds the rules to a Pod, and finds missing rules."""

    def put(self, namespace: NetworkNamespace, families: Iterable[Family]) -> None:
        """Add missing rules. Raises DatapathError."""
        ...

    def missing(self, namespace: NetworkNamespace, families: Iterable[Family]) -> list[str]:
        """One text for each rule that is missing. Raises DatapathError."""
        ...


class NftReplyMarkRules(ReplyMarkRules):
    """Rules of nftables: one table for each family."""

    def __init__(self, executor: NetnsExecutor) -> None:
        self._executor = executor

    def put(self, namespace: NetworkNamespace, families: Iterable[Family]) -> None:
        with nft.opened_socket(self._executor, namespace) as netlink:
            # Read first: reading is fast, but a refused transaction takes 10 to 20 ms.
            incomplete_families = tuple(
                family for family in families if _rules_missing(netlink, family)
            )
            if not incomplete_families:
                return
            try:
                nft.create_tables(netlink, incomplete_families, TABLE_NAME, _CHAINS)
            except NetlinkRefused as refusal:
                if refusal.errno != EEXIST:
                    raise
                nft.replace_tables(netlink, incomplete_families, TABLE_NAME, _CHAINS)

    def missing(self, namespace: NetworkNamespace, families: Iterable[Family]) -> list[str]:
        with nft.opened_socket(self._executor, namespace) as netlink:
            return [
                f"IPv{family} rule `{rule}` of nftables table {TABLE_NAME} is missing"
                for family in families
                for rule in _rules_missing(netlink, family, _EARLIER_RULES)
            ]


class IptablesReplyMarkRules(ReplyMarkRules):
    """Rules of the mangle table, added by the node's iptables."""

    def __init__(self, executor: NetnsExecutor) -> None:
        self._executor = executor

    def put(self, namespace: NetworkNamespace, families: Iterable[Family]) -> None:
        for family in families:
            for rule in self._rules_missing(namespace, family):
                process = self._run(namespace, family, "-A", rule)
                if process.returncode:
                    raise _failed(family, rule, process)

    def missing(self, namespace: NetworkNamespace, families: Iterable[Family]) -> list[str]:
        return [
            f"{_IPTABLES[family]} -t mangle rule `{rule}` is missing"
            for family in families
            for rule in self._rules_missing(namespace, family)
            if rule not in _EARLIER_RULES or not self._has(namespace, family, _EARLIER_RULES[rule])
        ]

    def _rules_missing(self, namespace: NetworkNamespace, family: Family) -> list[str]:
        return [rule for rule in _IPTABLES_RULES if not self._has(namespace, family, rule)]

    def _has(self, namespace: NetworkNamespace, family: Family, rule: str) -> bool:
        return self._run(namespace, family, "-C", rule).returncode == 0

    def _run(
        self, namespace: NetworkNamespace, family: Family, verb: str, rule: str
    ) -> subprocess.CompletedProcess[str]:
        name = _IPTABLES[family]
        # The program without the suffix often uses nftables, which this kernel lacks.
        program = shutil.which(f"{name}-legacy") or shutil.which(name)
        if program is None:
            text = f"the kernel has no nftables, and there is no {name}"
            raise DatapathError(text, remedy="install iptables where the agent runs")
        command = [program, "-w", str(LOCK_S_MAX), "-t", "mangle", verb, *rule.split()]

        def run() -> subprocess.CompletedProcess[str]:
            return subprocess.run(  # noqa: S603 - fixed words, no shell
                command, capture_output=True, check=False, text=True, timeout=IPTABLES_S_MAX
            )

        try:
            process = self._executor.run(namespace, run)
        except subprocess.TimeoutExpired:
            raise _busy(name, IPTABLES_S_MAX) from None
        if process.returncode == LOCKED:
            raise _busy(name, LOCK_S_MAX)
        return process


class PreferredReplyMarkRules(ReplyMarkRules):
    """Uses nftables, or iptables once the kernel has refused nftables as unsupported."""

    def __init__(self, executor: NetnsExecutor) -> None:
        self._iptables = IptablesReplyMarkRules(executor)
        self._preferred: ReplyMarkRules = NftReplyMarkRules(executor)

    def put(self, namespace: NetworkNamespace, families: Iterable[Family]) -> None:
        all_families = tuple(families)
        self._call_preferred(lambda rules: rules.put(namespace, all_families))

    def missing(self, namespace: NetworkNamespace, families: Iterable[Family]) -> list[str]:
        all_families = tuple(families)
        return self._call_preferred(lambda rules: rules.missing(namespace, all_families))

    def _call_preferred(self, call: Callable[[ReplyMarkRules], T]) -> T:
        try:
            return call(self._preferred)
        except NetlinkRefused as refusal:
            if refusal.errno not in nft.UNSUPPORTED:
                raise
            self._preferred = self._iptables
            return call(self._preferred)


def _rules_missing(
    netlink: socket.socket, family: Family, earlier_rules: Mapping[str, str] = {}
) -> list[str]:
    existing = nft.rules_in(netlink, family, TABLE_NAME)
    return [
        rule
        for rule in _EXPECTED_RULES
        if rule not in existing and earlier_rules.get(rule) not in existing
    ]


def _busy(name: str, waited_s: float) -> FirewallBusy:
    return FirewallBusy(
        f"{name} did not get the xtables lock within {waited_s:g} s: another program changes rules",
        subject=name,
        remedy="the runtime tries again; if the call fails again, find which process holds"
        " /run/xtables.lock",
    )


def _failed(family: Family, rule: str, process: subprocess.CompletedProcess[str]) -> DatapathError:
    text = " ".join(process.stderr.split())[-STDERR_CHARACTERS_MAX:]
    return DatapathError(
        f"{_IPTABLES[family]} -t mangle -A {rule}: exit status {process.returncode}: {text}",
        remedy="check that the kernel has the modules xt_conntrack, xt_mark and xt_connmark",
    )
