"""Decides what an ADD or a DEL changes in an endpoint.

``decide_add`` classifies an ADD. The caller chooses the addresses, and ``claim`` builds the event.
``decide_release`` decides which claims a DEL ends. No I/O. Invariants I3 and I7:
docs/contributing/architecture.md.

In the unnamed mode, the Pod's annotation lists NICs without interface names. The list items are
numbered "0", "1", ...
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

from core.domain.addresses.ip_address import Family, parse_address
from core.domain.events import AddressesClaimed, EndpointChanged, PoolVerdict
from core.domain.fixed.fixed_address_owners import VM_INSTANCE
from core.domain.fixed.owner_validity import Validity
from core.domain.model import (
    Attachment,
    Endpoint,
    Nic,
    pod_holder,
    stateful_holder,
)
from core.domain.request_facts import PodFacts
from core.domain.selection.selection_request import (
    NICS_MAX,
    Candidates,
    Demand,
    NicPools,
    Selection,
)
from core.errors import AllocationError, WrongInput

FIRST_INTERFACE = "eth0"
"""The interface of item 0 in the unnamed mode."""

EndReason = Literal["superseded", "pools-changed", "repair"]


class Repeat(NamedTuple):
    """All claims exist already: the ADD returns the endpoint and writes nothing (I7)."""

    endpoint: Endpoint


class EndpointUpdate(NamedTuple):
    """The endpoint changes, but its addresses stay.

    The cause is a new sandbox, an ADD that names a NIC, or a new Pod of the same holder.
    """

    event: EndpointChanged


class ClaimPlan(NamedTuple):
    """The ADD claims addresses.

    keep      the endpoint's NICs that do not change
    holder    the holder of all addresses after the ADD
    ended     (address, pool) pairs whose claims end in the same transaction
    why       why the claims end: the endpoint belonged to an older Pod (``superseded``), has pools
              that the template no longer lists (``pools-changed``), or has addresses that cannot
              be claimed again (``repair``)
    listed    the replaced NICs with the addresses that stay claimed, because the template still
              lists their pools; each NIC has the interface name that the selection uses
    """

    keep: tuple[Nic, ...]
    holder: str
    ended: tuple[tuple[str, str], ...] = ()
    why: EndReason = "superseded"
    listed: tuple[Nic, ...] = ()

    @property
    def remaining_nics(self) -> tuple[Nic, ...]:
        """The NICs after claims have ended and before new addresses are claimed."""
        return (*self.keep, *map(_with_stored_name, self.listed))

    @property
    def listed_families(self) -> frozenset[tuple[str, Family]]:
        """(interface, family) pairs that need no new address."""
        return frozenset(
            (nic.interface, parse_address(address).family)
            for nic in self.listed
            for address, _ in nic.addresses()
        )

    def with_claims(self, holders: Mapping[str, str]) -> ClaimPlan:
        """A copy in which ``listed`` has only addresses that ``holder`` still has claimed.

        ``holders``: claimed address -> its holder.
        """

        def is_own(cidr: str) -> bool:
            return holders.get(cidr.partition("/")[0]) == self.holder

        listed = (
            _families_of(nic, ipv4=is_own(nic.ipv4), ipv6=is_own(nic.ipv6)) for nic in self.listed
        )
        return self._replace(listed=tuple(nic for nic in listed if nic is not None))


def holder_of(pod: PodFacts) -> str:
    """The holder of this Pod's addresses."""
    if pod.fixed is None:
        return pod_holder(pod.uid)
    return stateful_holder(pod.fixed, *pod.endpoint_key)


def decide_add(
    pod: PodFacts,
    attachment: Attachment,
    endpoint: Endpoint | None,
    *,
    changed: frozenset[int] = frozenset(),
    lost: frozenset[int] = frozenset(),
    requested: Candidates | None = None,
) -> Repeat | EndpointUpdate | ClaimPlan:
    """Classify an ADD. Raises AllocationError for a Pod that has ended.

    ``changed``: indexes of the NICs with a pool that the Pod no longer requests. ``lost``: indexes
    of the NICs whose addresses cannot be claimed again. The claims of these NICs end, except in
    pools that ``requested`` still lists. An ADD of the same Pod keeps the holder, even if new
    settings would choose another. Also raises AllocationError if the endpoint belongs to a VM and
    the Pod does not, or the reverse.
    """
    if pod.alive is False:
        raise AllocationError(  # Spiderpool's text, which users search for
            f"dead Pod {pod.namespace}/{pod.name}, we cannot allocate IP addresses to it",
            subject=pod.name,
            remedy="the Pod is being deleted or has finished; "
            "the Pod that replaces it will get addresses",
        )
    if endpoint is None:
        return ClaimPlan(keep=(), holder=holder_of(pod))
    if endpoint.holder != holder_of(pod) and endpoint.uid != pod.uid:
        _require_older_pod(pod, endpoint)
        return ClaimPlan(keep=(), holder=holder_of(pod), ended=endpoint.addresses())
    if changed or lost:
        why: EndReason = "repair" if lost else "pools-changed"
        return _replacement(endpoint, changed | lost, requested, why)
    position = _position(endpoint.nics, attachment.interface)
    if position is None:
        return ClaimPlan(keep=endpoint.nics, holder=endpoint.holder)
    nics = list(endpoint.nics)
    nics[position] = nics[position].attached(attachment)
    after = endpoint._replace(uid=pod.uid, node=pod.node, nics=tuple(nics))
    if pod.ipam_claim:  # the Pod owns the endpoint of its IPAMClaim
        after = after._replace(owner_name=pod.name)
    return Repeat(endpoint) if after == endpoint else EndpointUpdate(EndpointChanged(after))


def _require_older_pod(pod: PodFacts, endpoint: Endpoint) -> None:
    """Raise AllocationError unless the endpoint can be that of an older Pod of the same name.

    A VM and a Pod of the same name have one endpoint, and the addresses of both may be in use.
    """
    is_of_vm = endpoint.owner_kind == VM_INSTANCE or endpoint.holder.startswith("vm/")
    is_launcher = pod.fixed == "vm" or (pod.owner is not None and pod.owner.kind == VM_INSTANCE)
    if is_of_vm == is_launcher:
        return
    namespace, name = endpoint.key
    kind = "VM" if is_of_vm else "Pod"
    raise AllocationError(
        f"SpiderEndpoint {namespace}/{name} has the addresses of the {kind} of this name",
        subject=f"Pod/{pod.namespace}/{pod.name}",
        remedy=f"give the Pod or the VM another name; if {kind} {namespace}/{name} is gone,"
        " wait until its addresses are released",
    )


def _replacement(
    endpoint: Endpoint, replaced: frozenset[int], requested: Candidates | None, why: EndReason
) -> ClaimPlan:
    keep: list[Nic] = []
    listed: list[Nic] = []
    ended: list[tuple[str, str]] = []
    items = _items_of(endpoint, requested)
    for index, nic in enumerate(endpoint.nics):
        if index not in replaced:
            keep.append(nic)
            continue
        item = items.get(index)
        listed_part = None if item is None else _still_listed(nic, item)
        pairs = () if listed_part is None else listed_part.addresses()
        ended += [pair for pair in nic.addresses() if pair not in pairs]
        if listed_part is not None:
            listed.append(listed_part)
    return ClaimPlan(
        keep=tuple(keep), holder=endpoint.holder, ended=tuple(ended), why=why, listed=tuple(listed)
    )


def has_attached(endpoint: Endpoint, attachment: Attachment) -> bool:
    """Whether this sandbox already has the NIC. The ADD then changes nothing (I7)."""
    nic = endpoint.find(attachment.interface)
    return nic is not None and nic.container == attachment.container != ""


def nics_with_changed_pools(
    endpoint: Endpoint, requested: Candidates, attachment: Attachment
) -> frozenset[int]:
    """The indexes of the NICs whose pools the template no longer lists.

    Outside the unnamed mode, only the NIC of the ADD is compared. In the unnamed mode, every NIC is
    compared with the list item of the same index, and one difference selects all NICs. NICs that
    this sandbox already has are never selected. A family that the template has added is not a
    change. See docs/reference/fixed-address-rules.md, "Changed pools".
    """
    items = _items_of(endpoint, requested)
    if requested.unnamed:
        if any(nic.container == attachment.container != "" for nic in endpoint.nics):
            return frozenset()
        is_changed = len(endpoint.nics) > len(items) or any(
            _lists_differ(endpoint.nics[index], pools) for index, pools in items.items()
        )
        return frozenset(range(len(endpoint.nics))) if is_changed else frozenset()
    if has_attached(endpoint, attachment):
        return frozenset()
    return frozenset(
        index
        for index, pools in items.items()
        if pools.interface == attachment.interface and _lists_differ(endpoint.nics[index], pools)
    )


def _items_of(endpoint: Endpoint, requested: Candidates | None) -> dict[int, NicPools]:
    """Index of a NIC -> the pools requested for it.

    In the unnamed mode, the NICs correspond to the first items that name pools.
    """
    if requested is None:
        return {}
    if requested.unnamed:
        items = [pools for pools in requested.nics if pools.ipv4 or pools.ipv6]
        return dict(enumerate(items[: len(endpoint.nics)]))
    by_index = {index: requested.find(nic.interface) for index, nic in enumerate(endpoint.nics)}
    return {index: pools for index, pools in by_index.items() if pools is not None}


def _lists_differ(nic: Nic, pools: NicPools) -> bool:
    return (bool(nic.ipv4_pool) and nic.ipv4_pool not in pools.ipv4) or (
        bool(nic.ipv6_pool) and nic.ipv6_pool not in pools.ipv6
    )


def _still_listed(nic: Nic, pools: NicPools) -> Nic | None:
    """The NIC with its addresses of ``pools`` only; None if it has no such address."""
    listed = _families_of(nic, ipv4=nic.ipv4_pool in pools.ipv4, ipv6=nic.ipv6_pool in pools.ipv6)
    return listed and listed._replace(interface=pools.interface)


def _families_of(nic: Nic, *, ipv4: bool, ipv6: bool) -> Nic | None:
    """The NIC with its addresses of the given families; None if it has no such address."""
    partial_nic = Nic(nic.interface)
    if ipv4:
        partial_nic = partial_nic._replace(ipv4=nic.ipv4, ipv4_pool=nic.ipv4_pool)
    if ipv6:
        partial_nic = partial_nic._replace(ipv6=nic.ipv6, ipv6_pool=nic.ipv6_pool)
    return partial_nic if partial_nic.addresses() else None


def unmet_demands(selection: Selection, keep: tuple[Nic, ...]) -> tuple[Demand, ...]:
    """The demands whose NIC the endpoint does not have yet."""
    if not keep:
        return selection.demands
    if selection.unnamed:
        items = list(dict.fromkeys(demand.interface for demand in selection.demands))
        existing_interfaces = set(items[: len(keep)])
    else:
        existing_interfaces = {nic.interface for nic in keep}
    return tuple(
        demand for demand in selection.demands if demand.interface not in existing_interfaces
    )


def claim(
    pod: PodFacts,
    attachment: Attachment,
    claim_plan: ClaimPlan,
    chosen: Sequence[Nic],
    source: str = "",
    passed_over: tuple[PoolVerdict, ...] = (),
) -> AddressesClaimed:
    """Build the event of a claim. ``chosen``: the new NICs with their addresses.

    ``source`` and ``passed_over``: see ``AddressesClaimed``.

    In the unnamed mode, NIC "0" gets the name eth0. The other NICs have no name at first; an ADD
    for a new interface names the first NIC without a name. Raises WrongInput for more NICs than one
    transaction can release.
    """
    if len(claim_plan.keep) + len(chosen) > NICS_MAX:
        raise WrongInput(
            f"wrong input, Pod {pod.namespace}/{pod.name} has more than {NICS_MAX} NICs",
            subject=pod.name,
            remedy="request fewer NICs in the Pod's annotations",
        )
    nics = [*claim_plan.keep, *map(_with_stored_name, chosen)]
    position = _position(tuple(nics), attachment.interface)
    if position is not None:
        nics[position] = nics[position].attached(attachment)
    namespace, name = pod.endpoint_key
    # The endpoint of an IPAMClaim has the name of the IPAMClaim; the owner is the Pod.
    owner = None if pod.ipam_claim else pod.owner
    owner_kind, owner_name = ("Pod", pod.name) if owner is None else (owner.kind, owner.name)
    endpoint = Endpoint(
        namespace, name, pod.uid, pod.node, claim_plan.holder, owner_kind, owner_name, tuple(nics)
    )
    new_nics = tuple(range(len(claim_plan.keep), len(nics)))
    return AddressesClaimed(endpoint, new_nics, source, passed_over)


class ReleaseDecision(NamedTuple):
    """What a DEL ends.

    ``ends``: the claims of the endpoint end; only the NICs in ``keep`` keep their claims.
    ``evidence``: a proof, besides the DEL, that the addresses are no longer needed.
    ``needs_check``: the claims do not end yet; the caller must read the API server and decide
    again.
    """

    ends: bool
    why: str
    keep: tuple[Nic, ...] = ()
    evidence: str = ""
    needs_check: bool = False


def decide_release(
    endpoint: Endpoint,
    attachment: Attachment,
    uid: str,
    *,
    alive: bool | None,
    validity: Validity | None = None,
    migrating: bool = False,
) -> ReleaseDecision:
    """Decide whether a DEL of this attachment ends claims of the endpoint.

    ``uid``: the UID of the Pod, "" if unknown. ``alive``: None (unknown) counts as False.
    ``validity``: None if the addresses are not fixed; fixed addresses stay unless the owner is
    proved to be deleted. ``migrating``: the Pod is the target of a VM live migration; fixed
    addresses then stay until reclaim finds that the source Pod has ended too.

    A DEL for another UID or an older sandbox is late and ends nothing (I3). The first DEL of a
    sandbox ends all claims of the sandbox, even if the DEL names a NIC that was never added. The
    NICs of the Pod's other sandboxes stay claimed. If the NIC of the DEL is claimed but not
    attached, and another sandbox has NICs, the DEL ends nothing. See
    docs/reference/address-assignment.md, "DEL".
    """
    if alive:
        return ReleaseDecision(ends=False, why="the Pod is alive")
    if validity is None:
        return _released_by(endpoint, attachment, uid)
    if validity.keeps:
        return ReleaseDecision(ends=False, why=f"fixed: {validity.why}")
    if migrating:
        return ReleaseDecision(
            ends=False, why=f"{validity.why}, but the source may still use the addresses"
        )
    return _released_by(endpoint, attachment, uid)._replace(evidence=validity.why)


def _released_by(endpoint: Endpoint, attachment: Attachment, uid: str) -> ReleaseDecision:
    if uid and endpoint.uid != uid:
        return ReleaseDecision(ends=False, why=f"the endpoint belongs to Pod {endpoint.uid}")
    nic = endpoint.find(attachment.interface)
    sandbox = attachment.container or (nic.container if nic else "")
    # Without a container id, a DEL of a NIC that the endpoint lacks ends nothing.
    if nic is None and all(other.container != sandbox for other in endpoint.nics if sandbox):
        return ReleaseDecision(ends=False, why=f"the endpoint has no NIC {attachment.interface}")
    if nic is not None and nic.container not in ("", sandbox):
        return ReleaseDecision(
            ends=False, why=f"NIC {nic.interface} belongs to sandbox {nic.container}"
        )
    if all(other.container in ("", sandbox) for other in endpoint.nics):
        return ReleaseDecision(ends=True, why="the sandbox is gone")
    if nic is not None and not nic.container:
        return ReleaseDecision(
            ends=False, why=f"another sandbox has not attached NIC {nic.interface} yet"
        )
    keep = tuple(other for other in endpoint.nics if other.container != sandbox)
    return ReleaseDecision(
        ends=True, why="the sandbox is gone, another one has the other NICs", keep=keep
    )


def _with_stored_name(nic: Nic) -> Nic:
    if not nic.interface.isdigit():
        return nic
    return nic._replace(interface=FIRST_INTERFACE if nic.interface == "0" else "")


def _position(nics: tuple[Nic, ...], interface: str) -> int | None:
    """The index of the NIC with this interface, else of the first NIC without a name, else None."""
    names = [nic.interface for nic in nics]
    for name in (interface, ""):
        if name in names:
            return names.index(name)
    return None
