"""Derives verdicts and remedies from an examination of a node. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Literal, NamedTuple

from nodeagent.clusterip.pod_cgroups import BPFFS
from ops.diagnostics.examination import Examination, GatewayAnswer
from ops.diagnostics.kernel_features import CGROUPS_FEATURE, CLUSTER_IPS, PINS_FEATURE
from ops.diagnostics.network_manager import (
    CONFIGURATION_FOLDER,
    CREATED_KINDS,
    SUGGESTED_FILE,
    VETHS,
    suggested_content,
)
from ops.diagnostics.nics import MasterNic
from ops.diagnostics.roce_qos import RoceNicState

Verdict = Literal["ok", "warning", "failed"]
"""``failed``: Pods on common networks fail. ``warning``: some Pods may fail."""

NEEDED_FEATURES: Final = ("veth links", "macvlan links", "IPv4 policy rules")
"""Kernel features that common networks need. Any other missing feature is a warning."""

MTU_MIN_FOR_IPV6: Final = 1_280
READ_REMEDY: Final = "correct the cause; if a permission is missing, run this command as root"


class Diagnosis(NamedTuple):
    """The result of one check. ``found``: the state of the node."""

    check: str
    verdict: Verdict
    found: str
    remedy: str = ""


def diagnose(examination: Examination) -> list[Diagnosis]:
    """Derive all diagnoses."""
    return [
        *_kernel_and_capabilities(examination),
        *_features(examination),
        *_sysctls(examination),
        *_manager(examination),
        *(diagnosis for nic in examination.nics for diagnosis in _nic(nic)),
        *map(_roce, examination.roce),
        *map(_gateway, examination.gateways),
        *(Diagnosis("examination", "failed", fault, READ_REMEDY) for fault in examination.faults),
    ]


def worst(diagnoses: list[Diagnosis]) -> Verdict:
    """The worst verdict; "ok" if there are no diagnoses."""
    order: tuple[Verdict, ...] = ("failed", "warning", "ok")
    verdicts = {diagnosis.verdict for diagnosis in diagnoses}
    return next((verdict for verdict in order if verdict in verdicts), "ok")


def _kernel_and_capabilities(examination: Examination) -> Iterator[Diagnosis]:
    yield Diagnosis("kernel", "ok", f"Linux {examination.kernel} on {examination.machine}")
    if examination.missing_capabilities:
        missing = ", ".join(examination.missing_capabilities)
        yield Diagnosis(
            "capabilities",
            "failed",
            f"missing: {missing}",
            "run this command as root, or grant the capabilities to the agent",
        )
    else:
        yield Diagnosis("capabilities", "ok", "NET_ADMIN, NET_RAW, SYS_ADMIN")
    if examination.ipv6:
        yield Diagnosis("IPv6", "ok", "in the kernel")
    else:
        yield Diagnosis(
            "IPv6", "warning", "not in the kernel", "modprobe ipv6, or set enableIPv6: false"
        )


def _features(examination: Examination) -> Iterator[Diagnosis]:
    for feature in examination.features:
        if not feature.why_not:
            yield Diagnosis(feature.name, "ok", "yes")
            continue
        verdict: Verdict = "failed" if feature.name in NEEDED_FEATURES else "warning"
        remedy = f"modprobe -a {feature.module}" if feature.module else _kernel_remedy(feature.name)
        yield Diagnosis(feature.name, verdict, f"no: {feature.why_not}", remedy)


def _kernel_remedy(feature: str) -> str:
    """The remedy for a missing feature that no kernel module adds."""
    if feature == PINS_FEATURE:
        return f"if orbweaver.clusterIP is enabled: mount -t bpf bpf {BPFFS}"
    if feature == CGROUPS_FEATURE:
        return "if orbweaver.clusterIP is enabled: mount -t cgroup2 cgroup2 /sys/fs/cgroup"
    if feature.startswith(CLUSTER_IPS):
        return "nothing, if orbweaver.clusterIP is disabled; otherwise use a newer kernel"
    return "use a kernel with policy routing (CONFIG_IP_MULTIPLE_TABLES)"


def _sysctls(examination: Examination) -> Iterator[Diagnosis]:
    for reading in examination.sysctls:
        name = reading.sysctl.key.removeprefix("net/").replace("/", ".")
        if reading.current is None:
            remedy = "agents skip this sysctl; if Pods need it, use another kernel"
            yield Diagnosis(f"sysctl {name}", "warning", "the kernel has no such key", remedy)
        elif not reading.needs_change:
            yield Diagnosis(f"sysctl {name}", "ok", reading.current)
        else:
            yield Diagnosis(
                f"sysctl {name}",
                "warning",
                f"{reading.current}, not {reading.sysctl.value}",
                f"sysctl -w net.{name}={reading.sysctl.value}, or tuneSysctlConfig: true",
            )


def _manager(examination: Examination) -> Iterator[Diagnosis]:
    manager = examination.manager
    links = [nic for nic in examination.nics if nic.kind in CREATED_KINDS]
    if manager is None:
        state = "unknown: it cannot be checked from a Pod"
        remedy = _unmanaged_remedy([VETHS, *(link.name for link in links)])
        yield Diagnosis("NetworkManager", "warning", state, f"if it runs on the node, {remedy}")
        return
    if not manager.running:
        yield Diagnosis("NetworkManager", "ok", "does not run on this node")
        return
    managed = [] if manager.ignores_veths else [VETHS]
    managed += [
        link.name
        for link in links
        if link.name not in manager.profiles and not manager.ignores(link.name, link.kind)
    ]
    if managed:
        state = f"runs, and may reconfigure {', '.join(managed)}"
        yield Diagnosis("NetworkManager", "warning", state, _unmanaged_remedy(managed))
    else:
        state = "does not manage veths, nor bonds and VLANs without a profile"
        yield Diagnosis("NetworkManager", "ok", state)


def _unmanaged_remedy(interfaces: list[str]) -> str:
    file = CONFIGURATION_FOLDER / SUGGESTED_FILE
    content = suggested_content(interfaces).strip().replace("\n", "; ")
    if interfaces == [VETHS]:
        return f"write to {file}: {content}"
    return f"write to {file}, without interfaces that NetworkManager must manage: {content}"


def _nic(nic: MasterNic) -> Iterator[Diagnosis]:
    state = "no carrier" if nic.up else "down"
    if nic.carrier:
        state = "up"
    details = [nic.kind, state, f"MTU {nic.mtu}", nic.mac, *nic.addresses]
    if nic.promiscuity:
        details.append("promiscuous")
    if nic.master:
        details.append(f"in {nic.master}")
    if nic.vfs_max:
        details.append(f"{nic.vfs} of {nic.vfs_max} VFs created")
    details += [f"RDMA {name}" for name in nic.rdma]
    text, check = ", ".join(details), f"interface {nic.name}"
    if nic.up and not nic.carrier:
        below = "its cable and the port of the switch" if nic.kind == "nic" else "the NIC below it"
        yield Diagnosis(check, "warning", text, f"check {below}")
    elif nic.mtu < MTU_MIN_FOR_IPV6:
        remedy = f"IPv6 needs {MTU_MIN_FOR_IPV6}: ip link set {nic.name} mtu {MTU_MIN_FOR_IPV6}"
        yield Diagnosis(check, "warning", text, remedy)
    else:
        yield Diagnosis(check, "ok", text)


def _roce(state: RoceNicState) -> Diagnosis:
    """A rule with node labels gives no warning: this node's labels are unknown."""
    check = f"RoCE QoS of {state.nic}"
    if not state.differences and not state.gaps:
        return Diagnosis(check, "ok", state.found)
    missing = "; ".join((*state.differences, *state.gaps))
    if state.nodes:
        text = f"{state.found}; a rule for nodes with {state.nodes} requires {missing}"
        return Diagnosis(check, "ok", text)
    if state.differences:
        remedy = "see the log of the agent for the cause"
        return Diagnosis(check, "warning", f"{state.found}; missing: {missing}", remedy)
    remedy = "use another driver, or configure the NIC with the tools of its vendor"
    return Diagnosis(check, "warning", f"{state.found}; {missing}", remedy)


def _gateway(answer: GatewayAnswer) -> Diagnosis:
    gateway = answer.gateway
    check = f"gateway {gateway.address} on {gateway.interface}"
    if answer.fault:
        return Diagnosis(check, "warning", answer.fault, READ_REMEDY)
    if not answer.macs:
        remedy = (
            "check that the gateway is on this link; with enableGatewayDetection, ADD fails here"
        )
        return Diagnosis(check, "warning", "no host answers", remedy)
    if len(answer.macs) > 1:
        remedy = (
            "if two machines have this address, change one; or stop a proxy that answers for it"
        )
        return Diagnosis(
            check, "warning", f"several hosts answer: {', '.join(answer.macs)}", remedy
        )
    return Diagnosis(check, "ok", f"{answer.macs[0]} answers")
