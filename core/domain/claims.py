"""What an ADD and a DEL mean for an endpoint: pure decisions.

``decide_add`` looks at the endpoint that is there (or none) and says which of four things the
request is: a repeat, a change without addresses (new sandbox, open NIC), a claim of addresses, or a
refusal. ``claim`` then makes the event from the addresses that were chosen. ``decide_release`` says
whether a DEL ends anything (I3, I7). Nothing here chooses addresses, knows revisions, or waits.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from core.domain.events import AddressesClaimed, EndpointChanged
from core.domain.facts import PodFacts
from core.domain.model import (
    Attachment,
    Endpoint,
    Nic,
    pod_holder,
    stateful_holder,
)
from core.domain.selection.request import (
    Candidates,
    Demand,
    NicPools,
    Selection,
    SelectionRequest,
)

FIRST_INTERFACE = "eth0"
"""What item 0 of an unnamed multi-NIC list is called (spec/ipam.md 1.7)."""


class Repeat(NamedTuple):
    """Everything is there already: answer from the endpoint, write nothing (I7)."""

    endpoint: Endpoint


class Change(NamedTuple):
    """The endpoint changes, addresses stay."""

    event: EndpointChanged


class Need(NamedTuple):
    """Addresses are to be claimed.

    ``keep``: the endpoint's NICs that stay. ``give_up``: (address, pool) pairs whose claims end in
    the same transaction, because the endpoint belonged to an older Pod (``superseded``) or names
    pools that the Pod's template no longer lists (``pools-changed``).
    """

    keep: tuple[Nic, ...]
    give_up: tuple[tuple[str, str], ...] = ()


def holder_of(pod: PodFacts) -> str:
    """The holder of this Pod's addresses."""
    namespace, name = pod.endpoint_key
    if pod.fixed is None:
        return pod_holder(pod.uid)
    return stateful_holder(pod.fixed, namespace, name)


def decide_add(
    pod: PodFacts,
    attachment: Attachment,
    endpoint: Endpoint | None,
    *,
    moved: frozenset[int] = frozenset(),
) -> Repeat | Change | Need:
    """Which kind of ADD this is.

    ``moved``: indexes of the endpoint's NICs whose pools the Pod no longer asks for
    (``moved_nics``); their addresses are given up when the replacement is certain, never before.
    """
    if endpoint is None:
        return Need(())
    if endpoint.holder != holder_of(pod):
        return Need((), endpoint.addresses())
    if moved:
        going = [nic for index, nic in enumerate(endpoint.nics) if index in moved]
        keep = tuple(nic for index, nic in enumerate(endpoint.nics) if index not in moved)
        return Need(keep, tuple(pair for nic in going for pair in nic.addresses()))
    position = _position(endpoint.nics, attachment.interface)
    if position is None:
        return Need(endpoint.nics)
    nics = list(endpoint.nics)
    nics[position] = _attached(nics[position], attachment)
    after = endpoint._replace(uid=pod.uid, node=pod.node, nics=tuple(nics))
    return Repeat(endpoint) if after == endpoint else Change(EndpointChanged(after))


def moved_nics(endpoint: Endpoint, named: Candidates, request: SelectionRequest) -> frozenset[int]:
    """The NICs of a fixed Pod whose pools its template no longer lists (spec/ipam.md 3.2).

    Only the requesting NIC is compared, or in the unnamed mode every NIC with the item of its
    index, and one difference there moves them all. A family that the template has added moves
    nothing (section 10 item 18).
    """
    if named.unnamed:
        items = [pools for pools in named.nics if pools.ipv4 or pools.ipv6]
        changed = len(endpoint.nics) > len(items) or any(
            _lists_differ(nic, pools) for nic, pools in zip(endpoint.nics, items, strict=False)
        )
        return frozenset(range(len(endpoint.nics))) if changed else frozenset()
    pools = named.find(request.interface)
    return frozenset(
        index
        for index, nic in enumerate(endpoint.nics)
        if nic.interface == request.interface and pools is not None and _lists_differ(nic, pools)
    )


def _lists_differ(nic: Nic, pools: NicPools) -> bool:
    return (bool(nic.ipv4_pool) and nic.ipv4_pool not in pools.ipv4) or (
        bool(nic.ipv6_pool) and nic.ipv6_pool not in pools.ipv6
    )


def unmet(selection: Selection, keep: tuple[Nic, ...]) -> tuple[Demand, ...]:
    """The demands whose NIC the endpoint does not have yet.

    In the unnamed mode the endpoint's NICs are those of the first items that name pools.
    """
    if selection.unnamed:
        items = list(dict.fromkeys(demand.interface for demand in selection.demands))
        have = set(items[: len(keep)])
    else:
        have = {nic.interface for nic in keep}
    return tuple(demand for demand in selection.demands if demand.interface not in have)


def claim(
    pod: PodFacts,
    attachment: Attachment,
    keep: tuple[Nic, ...],
    chosen: Sequence[Nic],
) -> AddressesClaimed:
    """The event of a claim: ``chosen`` are the new NICs with their addresses.

    In the unnamed multi-NIC mode their interfaces are "0", "1", ...: item 0 becomes eth0, the
    others stay open ("") until an ADD names them, and the request's own interface takes the first
    open one.
    """
    nics = [*keep, *(nic._replace(interface=_stored_name(nic.interface)) for nic in chosen)]
    position = _position(tuple(nics), attachment.interface)
    if position is not None:
        nics[position] = _attached(nics[position], attachment)
    namespace, name = pod.endpoint_key
    owner_kind, owner_name = ("Pod", pod.name) if pod.owner is None else pod.owner[:2]
    endpoint = Endpoint(
        namespace, name, pod.uid, pod.node, holder_of(pod), owner_kind, owner_name, tuple(nics)
    )
    return AddressesClaimed(endpoint, tuple(range(len(keep), len(nics))))


class ReleaseDecision(NamedTuple):
    """``ends``: the DEL ends claims of the endpoint, all but those of the NICs to ``keep``."""

    ends: bool
    why: str
    keep: tuple[Nic, ...] = ()


def decide_release(
    endpoint: Endpoint, attachment: Attachment, uid: str, *, alive: bool | None
) -> ReleaseDecision:
    """Whether a DEL of this attachment ends the endpoint (spec/ipam.md 2.3).

    ``uid``: the Pod's, "" when nobody knows it. ``alive`` None: nobody knows; the runtime's word
    counts. A DEL for another UID or an older sandbox is late and ends nothing (I3). While another
    sandbox has NICs of the Pod, only those of the named one end: a late DEL of a NIC that the new
    sandbox has not come to yet must not take away those that it uses.
    """
    if alive:
        return ReleaseDecision(False, "the Pod is alive")
    if uid and endpoint.uid != uid:
        return ReleaseDecision(False, f"the endpoint belongs to Pod {endpoint.uid}")
    nic = endpoint.find(attachment.interface)
    if nic is None:
        return ReleaseDecision(False, f"the endpoint has no NIC {attachment.interface}")
    if nic.container and attachment.container and nic.container != attachment.container:
        return ReleaseDecision(False, f"NIC {nic.interface} belongs to sandbox {nic.container}")
    ours = attachment.container or nic.container
    if all(each.container in ("", ours) for each in endpoint.nics):
        return ReleaseDecision(True, "the sandbox is gone")
    if not nic.container:
        return ReleaseDecision(False, f"NIC {nic.interface} waits for another sandbox")
    keep = tuple(each for each in endpoint.nics if each.container != ours)
    return ReleaseDecision(True, "the sandbox is gone, another one has the other NICs", keep)


def _stored_name(interface: str) -> str:
    if not interface.isdigit():
        return interface
    return FIRST_INTERFACE if interface == "0" else ""


def _position(nics: tuple[Nic, ...], interface: str) -> int | None:
    """Where the interface is, else the first open NIC, else None."""
    names = [nic.interface for nic in nics]
    for wanted in (interface, ""):
        if wanted in names:
            return names.index(wanted)
    return None


def _attached(nic: Nic, attachment: Attachment) -> Nic:
    return nic._replace(
        interface=attachment.interface,
        container=attachment.container,
        network=attachment.network,
        netns=attachment.netns,
    )
