"""Marks of the reply path: what came in through veth0 is answered through it.

See docs/reference/coordinator.md, "Reply path".

Three rules in the Pod's namespace: new connections from veth0 get the mark, the mark is kept with
the connection, and what the Pod sends in such a connection gets it back. Packets of others keep the
mark that the Pod gave them (SO_MARK). nftables takes them in one transaction;
where the kernel has none, the node's iptables does the same, a process a rule. Promise: done twice
is done once, and tables of others are left alone.
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
from nodeagent.coordinator.attachment_plan import MARK
from nodeagent.coordinator.facts import VETH
from nodeagent.netlink import nftables as nft
from nodeagent.netlink.codec import U32
from nodeagent.netlink.namespaces import NetnsExecutor, NetworkNamespace

T = TypeVar("T")

TABLE: Final = "orbweaver"
LOCK_S_MAX: Final = 4
"""How long iptables waits for its lock, which every program that changes rules takes."""

IPTABLES_S_MAX: Final = LOCK_S_MAX + 1.0
LOCKED: Final = 4
"""Exit status of iptables that did not get the lock (xtables: RESOURCE_PROBLEM)."""

WORDS_CHARACTERS_MAX: Final = 300

_CHAINS: Final = (
    nft.Chain(
        "prerouting",
        "filter",
        nft.PREROUTING,
        nft.MANGLE,
        (
            (
                nft.load_meta(nft.META_IIFNAME),
                nft.equals(nft.interface_name(VETH)),
                nft.load_ct(nft.CT_STATE),
                *nft.has_bits(nft.CT_STATE_NEW),
                nft.put(U32.pack(MARK)),
                nft.set_meta(nft.META_MARK),
            ),
            (
                nft.load_meta(nft.META_MARK),
                nft.equals(U32.pack(MARK)),
                nft.set_ct(nft.CT_MARK),
            ),
        ),
    ),
    # "route": a packet whose mark has changed is routed anew.
    nft.Chain(
        "output",
        "route",
        nft.OUTPUT,
        nft.MANGLE,
        (
            (
                nft.load_ct(nft.CT_MARK),
                nft.equals(U32.pack(MARK)),
                nft.set_meta(nft.META_MARK),
            ),
        ),
    ),
)
_RULES_THERE: Final = (
    "prerouting meta cmp ct bitwise cmp immediate meta",
    "prerouting meta cmp ct",
    "output ct cmp meta",
)

_IPTABLES: Final[dict[Family, str]] = {4: "iptables", 6: "ip6tables"}
_IPTABLES_RULES: Final = (
    f"PREROUTING -i {VETH} -m conntrack --ctstate NEW -j MARK --set-xmark {MARK:#x}",
    f"PREROUTING -m mark --mark {MARK:#x} -j CONNMARK --save-mark",
    f"OUTPUT -m connmark --mark {MARK:#x} -j CONNMARK --restore-mark",
)

_BEFORE: Final = {
    _RULES_THERE[-1]: "output ct meta",
    _IPTABLES_RULES[-1]: "OUTPUT -j CONNMARK --restore-mark",
}
"""Rules as earlier versions put them, which leave a Pod's own mark at nothing; CHECK accepts them,
so that Pods live through an upgrade."""


class ReplyMarkRules(Protocol):
    """One way of having the three rules."""

    def put(self, namespace: NetworkNamespace, families: Iterable[Family]) -> None:
        """Have them in place. Raises DatapathError and its kinds."""
        ...

    def missing(self, namespace: NetworkNamespace, families: Iterable[Family]) -> list[str]:
        """What is not in place, in words. Raises DatapathError and its kinds."""
        ...


class NftReplyMarkRules(ReplyMarkRules):
    """By nftables: a table of our own for each family."""

    def __init__(self, executor: NetnsExecutor) -> None:
        self._executor = executor

    def put(self, namespace: NetworkNamespace, families: Iterable[Family]) -> None:
        with nft.opened(self._executor, namespace) as netlink:
            # Looking first costs little; a refusal makes the kernel wait.
            lacking = tuple(family for family in families if _rules_missing(netlink, family))
            if not lacking:
                return
            try:
                nft.create_tables(netlink, lacking, TABLE, _CHAINS)
            except NetlinkRefused as refused:
                if refused.number != EEXIST:
                    raise
                nft.replace_tables(netlink, lacking, TABLE, _CHAINS)

    def missing(self, namespace: NetworkNamespace, families: Iterable[Family]) -> list[str]:
        with nft.opened(self._executor, namespace) as netlink:
            return [
                f"IPv{family} rule `{rule}` of nftables table {TABLE}"
                for family in families
                for rule in _rules_missing(netlink, family, _BEFORE)
            ]


class IptablesReplyMarkRules(ReplyMarkRules):
    """By the node's iptables, run inside: rules in its mangle table."""

    def __init__(self, executor: NetnsExecutor) -> None:
        self._executor = executor

    def put(self, namespace: NetworkNamespace, families: Iterable[Family]) -> None:
        for family in families:
            for rule in self._rules_missing(namespace, family):
                done = self._run(namespace, family, "-A", rule)
                if done.returncode:
                    raise _failed(family, rule, done)

    def missing(self, namespace: NetworkNamespace, families: Iterable[Family]) -> list[str]:
        return [
            f"{_IPTABLES[family]} -t mangle rule `{rule}`"
            for family in families
            for rule in self._rules_missing(namespace, family)
            if rule not in _BEFORE or not self._has(namespace, family, _BEFORE[rule])
        ]

    def _rules_missing(self, namespace: NetworkNamespace, family: Family) -> list[str]:
        return [rule for rule in _IPTABLES_RULES if not self._has(namespace, family, rule)]

    def _has(self, namespace: NetworkNamespace, family: Family, rule: str) -> bool:
        return self._run(namespace, family, "-C", rule).returncode == 0

    def _run(
        self, namespace: NetworkNamespace, family: Family, verb: str, rule: str
    ) -> subprocess.CompletedProcess[str]:
        name = _IPTABLES[family]
        # By now the name alone mostly means a program that writes nftables, which are not there.
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
            done = self._executor.run(namespace, run)
        except subprocess.TimeoutExpired:
            raise _busy(name, IPTABLES_S_MAX) from None
        if done.returncode == LOCKED:
            raise _busy(name, LOCK_S_MAX)
        return done


class PreferredReplyMarkRules(ReplyMarkRules):
    """By nftables, or by iptables once the kernel has said that it has no nftables."""

    def __init__(self, executor: NetnsExecutor) -> None:
        self._iptables = IptablesReplyMarkRules(executor)
        self._way: ReplyMarkRules = NftReplyMarkRules(executor)

    def put(self, namespace: NetworkNamespace, families: Iterable[Family]) -> None:
        wanted = tuple(families)
        self._by_the_best(lambda way: way.put(namespace, wanted))

    def missing(self, namespace: NetworkNamespace, families: Iterable[Family]) -> list[str]:
        wanted = tuple(families)
        return self._by_the_best(lambda way: way.missing(namespace, wanted))

    def _by_the_best(self, call: Callable[[ReplyMarkRules], T]) -> T:
        try:
            return call(self._way)
        except NetlinkRefused as refused:
            if refused.number not in nft.UNSUPPORTED:
                raise
            self._way = self._iptables
            return call(self._way)


def _rules_missing(
    netlink: socket.socket, family: Family, accepted: Mapping[str, str] = {}
) -> list[str]:
    there = nft.rules_in(netlink, family, TABLE)
    return [rule for rule in _RULES_THERE if rule not in there and accepted.get(rule) not in there]


def _busy(name: str, waited_s: float) -> FirewallBusy:
    return FirewallBusy(
        f"{name} did not get its lock within {waited_s:g} s: another program changes rules",
        subject=name,
        remedy="the runtime tries again; if it stays so, find what holds /run/xtables.lock",
    )


def _failed(family: Family, rule: str, done: subprocess.CompletedProcess[str]) -> DatapathError:
    words = " ".join(done.stderr.split())[-WORDS_CHARACTERS_MAX:]
    return DatapathError(
        f"{_IPTABLES[family]} -t mangle -A {rule}: exit status {done.returncode}: {words}"
    )
