"""Diagnoses out of an examination: what is well, what is not, what to do. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Literal, NamedTuple

from nodeagent.clusterip.pods import BPFFS
from ops.diagnostics.examination import Examination, GatewayAnswer
from ops.diagnostics.kernel_features import CLUSTER_IPS, PINS
from ops.diagnostics.network_manager import CONFIGURATION, SUGGESTED_FILE, SUGGESTION
from ops.diagnostics.nics import MasterNic

Verdict = Literal["ok", "warning", "failed"]
"""``failed``: Pods of the common kinds will not work; ``warning``: some will not, or may not."""

NEEDED: Final = ("veth links", "macvlan links", "IPv4 policy rules")
"""Abilities that the common Pod needs; without others some kinds of network are impossible."""

MTU_MIN_FOR_IPV6: Final = 1_280


class Diagnosis(NamedTuple):
    """One thing looked at. ``remedy`` "" where there is nothing to do."""

    check: str
    verdict: Verdict
    found: str
    remedy: str = ""


def diagnose(seen: Examination) -> list[Diagnosis]:
    """What to tell of a node, the general first."""
    return [
        *_process(seen),
        *_abilities(seen),
        *_sysctls(seen),
        *_manager(seen),
        *(one for nic in seen.nics for one in _nic(nic)),
        *map(_gateway, seen.gateways),
        *(Diagnosis("examination", "failed", fault, "run it as root") for fault in seen.faults),
    ]


def worst(found: list[Diagnosis]) -> Verdict:
    """The gravest verdict."""
    order: tuple[Verdict, ...] = ("failed", "warning", "ok")
    verdicts = {one.verdict for one in found}
    return next((verdict for verdict in order if verdict in verdicts), "ok")


def _process(seen: Examination) -> Iterator[Diagnosis]:
    yield Diagnosis("kernel", "ok", f"Linux {seen.kernel} on {seen.machine}")
    if seen.missing_capabilities:
        lacking = ", ".join(seen.missing_capabilities)
        yield Diagnosis(
            "capabilities",
            "failed",
            f"without {lacking}",
            "run as root, or grant them to the agent",
        )
    else:
        yield Diagnosis("capabilities", "ok", "NET_ADMIN, NET_RAW, SYS_ADMIN")
    if seen.ipv6:
        yield Diagnosis("IPv6", "ok", "in the kernel")
    else:
        yield Diagnosis(
            "IPv6", "warning", "not in the kernel", "modprobe ipv6, or set enableIPv6: false"
        )


def _abilities(seen: Examination) -> Iterator[Diagnosis]:
    for ability in seen.abilities:
        if not ability.why_not:
            yield Diagnosis(ability.name, "ok", "yes")
            continue
        verdict: Verdict = "failed" if ability.name in NEEDED else "warning"
        remedy = f"modprobe -a {ability.module}" if ability.module else _remedy(ability.name)
        yield Diagnosis(ability.name, verdict, f"no: {ability.why_not}", remedy)


def _remedy(ability: str) -> str:
    if ability == PINS:
        return f"mount -t bpf bpf {BPFFS}, if orbweaver.clusterIP is switched on"
    if ability.startswith(CLUSTER_IPS):
        return "nothing to do where orbweaver.clusterIP is off; else use a newer kernel"
    return "use another kernel"


def _sysctls(seen: Examination) -> Iterator[Diagnosis]:
    for reading in seen.sysctls:
        name = reading.wanted.key.removeprefix("net/").replace("/", ".")
        if reading.found is None:
            yield Diagnosis(f"sysctl {name}", "warning", "the kernel has no such key")
        elif reading.is_right:
            yield Diagnosis(f"sysctl {name}", "ok", reading.found)
        else:
            yield Diagnosis(
                f"sysctl {name}",
                "warning",
                f"{reading.found}, not {reading.wanted.value}",
                f"sysctl -w net.{name}={reading.wanted.value}, or tuneSysctlConfig: true",
            )


def _manager(seen: Examination) -> Iterator[Diagnosis]:
    if not seen.manager.running:
        yield Diagnosis("NetworkManager", "ok", "does not run here")
    elif seen.manager.leaves_veths:
        yield Diagnosis("NetworkManager", "ok", "leaves veth interfaces alone")
    else:
        text = SUGGESTION.strip().replace("\n", "; ")
        yield Diagnosis(
            "NetworkManager",
            "warning",
            "runs, and may take Pods' veth interfaces",
            f"write to {CONFIGURATION / SUGGESTED_FILE}: {text}",
        )


def _nic(nic: MasterNic) -> Iterator[Diagnosis]:
    state = "up" if nic.carrier else "no carrier" if nic.up else "down"
    found = [nic.kind, state, f"MTU {nic.mtu}", nic.mac, *nic.addresses]
    if nic.promiscuity:
        found.append("promiscuous")
    if nic.master:
        found.append(f"in {nic.master}")
    if nic.vfs_max:
        found.append(f"{nic.vfs} of {nic.vfs_max} VFs made")
    found += [f"RDMA {name}" for name in nic.rdma]
    words, check = ", ".join(found), f"interface {nic.name}"
    if nic.up and not nic.carrier:
        yield Diagnosis(check, "warning", words, "look at its cable or its master")
    elif nic.mtu < MTU_MIN_FOR_IPV6:
        remedy = f"IPv6 needs {MTU_MIN_FOR_IPV6}: ip link set {nic.name} mtu {MTU_MIN_FOR_IPV6}"
        yield Diagnosis(check, "warning", words, remedy)
    else:
        yield Diagnosis(check, "ok", words)


def _gateway(answer: GatewayAnswer) -> Diagnosis:
    gateway = answer.gateway
    check = f"gateway {gateway.address} on {gateway.interface}"
    if answer.fault:
        return Diagnosis(check, "warning", answer.fault)
    if not answer.macs:
        remedy = "is it on this link? enableGatewayDetection would fail Pods here"
        return Diagnosis(check, "warning", "nobody answers", remedy)
    if len(answer.macs) > 1:
        remedy = "two machines have this address, or a proxy answers for it"
        return Diagnosis(check, "warning", f"several answer: {', '.join(answer.macs)}", remedy)
    return Diagnosis(check, "ok", f"{answer.macs[0]} answers")
