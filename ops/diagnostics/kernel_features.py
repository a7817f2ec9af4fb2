"""Tries the kernel features that Pods need, in a temporary network namespace.

The kernel may load modules; nothing else on the node changes.
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from subprocess import SubprocessError
from typing import Final, NamedTuple

from core.domain.addresses.ip_address import Family
from core.errors import DatapathError, OrbweaverError
from nodeagent.clusterip.bpf_programs import DesiredPrograms
from nodeagent.clusterip.clusterip_setup import own_netns_cookie
from nodeagent.clusterip.pod_cgroups import BPFFS, cgroup2_mounts, is_in_bpffs
from nodeagent.clusterip.program_loader import try_loading
from nodeagent.coordinator.reply_mark_rules import (
    IptablesReplyMarkRules,
    NftReplyMarkRules,
    ReplyMarkRules,
)
from nodeagent.ifacer.link_messages import NO_ATTRIBUTES, Attributes, add_link
from nodeagent.netlink.namespaces import NetnsExecutor, NetworkNamespace
from nodeagent.netlink.numbers import CLONE_NEWNET
from nodeagent.netlink.requests import add_rule
from nodeagent.netlink.session import NetlinkSession
from nodeagent.netlink.values import RoutingRule

CLUSTER_IPS: Final = "ClusterIPs by sockets"
"""eBPF programs that replace a ClusterIP in socket calls of Pods."""

CGROUPS_FEATURE: Final = f"{CLUSTER_IPS}: cgroup v2"
PINS_FEATURE: Final = f"{CLUSTER_IPS}: programs outlive the agent"
TRIAL_TABLE: Final = 500
TRIAL_MARK: Final = 1
TRIAL_VLAN: Final = 5
TRIAL_PRIORITY: Final = 1_000

_FAMILIES: Final[tuple[Family, ...]] = (4, 6)


class KernelFeature(NamedTuple):
    """One feature. ``module``: the kernel modules to load. ``why_not``: the error, or ""."""

    name: str
    module: str
    why_not: str = ""


class _Kind(NamedTuple):
    kind: str
    module: str
    needs_parent: bool = False
    data: Attributes = NO_ATTRIBUTES


_KINDS: Final = (
    _Kind("veth", "veth"),
    _Kind("bridge", "bridge"),
    _Kind("macvlan", "macvlan", needs_parent=True),
    _Kind("ipvlan", "ipvlan", needs_parent=True),
    _Kind("vlan", "8021q", needs_parent=True, data={"IFLA_VLAN_ID": TRIAL_VLAN}),
    _Kind("bond", "bonding"),
    _Kind("vrf", "vrf", data={"IFLA_VRF_TABLE": TRIAL_TABLE}),
)
_libc: Final = ctypes.CDLL(None, use_errno=True)


def try_kernel_features(executor: NetnsExecutor) -> list[KernelFeature]:
    """Raises OSError if no network namespace can be created."""
    with _trial_namespace() as namespace, executor.session(namespace) as session:
        return [
            *_links(session),
            *(_rule(session, family) for family in _FAMILIES),
            *_reply_marks(executor, namespace),
            *_cluster_ips(),
        ]


def _links(session: NetlinkSession) -> Iterator[KernelFeature]:
    parent_numbers = count()
    for kind in _KINDS:
        parent = 0
        if kind.needs_parent:
            # A parent for each kind: a link cannot have both macvlans and ipvlans.
            name = f"p{next(parent_numbers)}"
            session.attempt([add_link(name, "veth")])
            link = session.link(name)
            parent = 0 if link is None else link.ifindex
        request = add_link(f"try-{kind.kind}", kind.kind, parent=parent, data=kind.data)
        (outcome,) = session.attempt([request])
        why = os.strerror(outcome.errno) if outcome.errno else ""
        yield KernelFeature(f"{kind.kind} links", kind.module, why)


def _rule(session: NetlinkSession, family: Family) -> KernelFeature:
    rule = RoutingRule(family, TRIAL_TABLE, TRIAL_PRIORITY, mark=TRIAL_MARK)
    (outcome,) = session.attempt([add_rule(rule)])
    why = os.strerror(outcome.errno) if outcome.errno else ""
    return KernelFeature(f"IPv{family} policy rules", "ipv6" if family == 6 else "", why)


def _reply_marks(executor: NetnsExecutor, namespace: NetworkNamespace) -> Iterator[KernelFeature]:
    """Try nftables, then iptables; one is enough (docs/reference/coordinator.md, "Reply path")."""
    implementations: tuple[tuple[str, ReplyMarkRules], ...] = (
        ("nftables", NftReplyMarkRules(executor)),
        ("iptables", IptablesReplyMarkRules(executor)),
    )
    for family in _FAMILIES:
        errors = []
        for name, rules in implementations:
            try:
                rules.put(namespace, (family,))
            except (OrbweaverError, OSError, SubprocessError) as error:
                errors.append(f"{name}: {error}")
                continue
            yield KernelFeature(f"IPv{family} reply marks by {name}", "")
            break
        else:
            yield KernelFeature(
                f"IPv{family} reply marks", "nf_tables nf_conntrack", "; ".join(errors)
            )


def _cluster_ips() -> Iterator[KernelFeature]:
    why = fault = ""
    try:
        own_netns_cookie()  # raises DatapathError if eBPF cannot identify namespaces
        # With 0, the programs change the sockets of every network namespace.
        if try_loading(DesiredPrograms(skipped_netns=0)) != errno.ECONNREFUSED:
            fault = "a refused connection gets EPERM from this kernel, not ECONNREFUSED"
    except DatapathError as error:
        why = str(error)
    yield KernelFeature(CLUSTER_IPS, "", why)
    yield KernelFeature(f"{CLUSTER_IPS}: refusal by ECONNREFUSED", "", why or fault)
    why = "" if cgroup2_mounts() else "cgroup v2 is not mounted"
    yield KernelFeature(CGROUPS_FEATURE, "", why)
    why = "" if is_in_bpffs(Path(BPFFS)) else f"{BPFFS} is not a bpffs: programs end with the agent"
    yield KernelFeature(PINS_FEATURE, "", why)


@contextmanager
def _trial_namespace() -> Iterator[NetworkNamespace]:
    """Create a namespace without a name; the kernel removes it after the ``with`` block."""
    with ThreadPoolExecutor(max_workers=1) as temporary:
        namespace = temporary.submit(_new_namespace).result()
    with namespace:
        yield namespace


def _new_namespace() -> NetworkNamespace:
    """Move this thread to a new network namespace, and open it. Raises OSError."""
    if _libc.unshare(CLONE_NEWNET):
        number = ctypes.get_errno()
        raise OSError(number, f"cannot create a network namespace: {os.strerror(number)}")
    return NetworkNamespace.own()
