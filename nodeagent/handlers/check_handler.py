"""CHECK that checks: etcd still says what the result of the ADD has said.

Promise: every difference is named, all of them at once. It reads the truth and repairs nothing;
what the kernel has is the main plugin's and the datapath's to check.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from core.domain.claims.claim_decisions import holder_of
from core.domain.facts import PodFacts
from core.domain.model import Attachment, Endpoint, Nic
from core.eventstore.codec import CLAIM, ENDPOINT
from core.eventstore.keys import Keys
from core.eventstore.kv import Get, KeyValueStore
from nodeagent.cni_protocol.call import Call
from nodeagent.cni_protocol.failures import CHECK_FAILED, CniFailure
from nodeagent.cni_protocol.netconf import previous_addresses
from nodeagent.facts import FactsSource

REMEDY: Final = "DEL and ADD this attachment again; `orbctl history` tells what has happened"


class CheckHandler:
    """Does CHECKs."""

    def __init__(self, store: KeyValueStore, keys: Keys, facts: FactsSource) -> None:
        self._store = store
        self._keys = keys
        self._facts = facts

    async def check(self, call: Call) -> None:
        """Raises CniFailure with what differs, StoreError when the truth cannot be read."""
        pod = self._facts.facts(call.pod).pod
        differences = await self._differences(call, pod)
        if differences:
            raise CniFailure(CHECK_FAILED, f"CHECK failed: {'; '.join(differences)}", REMEDY)

    async def _differences(self, call: Call, pod: PodFacts) -> list[str]:
        key = pod.endpoint_key
        name = "/".join(key)
        found = (await self._store.read([Get(self._keys.endpoint(*key))])).ranges[0].kvs
        if not found:
            return [f"there is no endpoint {name}"]
        endpoint = ENDPOINT.decode(found[0].value)
        nic = endpoint.find(call.attachment.interface)
        if nic is None:
            return [f"endpoint {name} has no interface {call.attachment.interface}"]
        of_pod = [*_of_holder(endpoint, pod), *_of_attachment(nic, call.attachment)]
        return [
            *([] if _is_handed_over(endpoint, pod) else of_pod),
            *_of_result(nic, call),
            *await self._of_claims(endpoint, nic),
        ]

    async def _of_claims(self, endpoint: Endpoint, nic: Nic) -> Sequence[str]:
        pairs = nic.addresses()
        if not pairs:
            return [f"interface {nic.interface} has no address"]
        gets = [Get(self._keys.ip_of(address)) for address, _ in pairs]
        ranges = (await self._store.read(gets)).ranges
        differences = []
        for (address, pool), found in zip(pairs, ranges, strict=True):
            if not found.kvs:
                differences.append(f"address {address} is not claimed")
                continue
            claim = CLAIM.decode(found.kvs[0].value)
            if claim.holder != endpoint.holder:
                differences.append(f"address {address} is held by {claim.holder}")
            if claim.pool != pool:
                differences.append(f"address {address} is of pool {claim.pool}, not of {pool}")
        return differences


def _is_handed_over(endpoint: Endpoint, pod: PodFacts) -> bool:
    """Whether another launcher of the VM has come: both hold the addresses while it migrates."""
    return pod.fixed == "vm" and endpoint.holder == holder_of(pod) and endpoint.uid != pod.uid


def _of_holder(endpoint: Endpoint, pod: PodFacts) -> Iterator[str]:
    if endpoint.uid == pod.uid:
        return
    if endpoint.holder != holder_of(pod):
        yield f"the endpoint belongs to {endpoint.holder}, not to {holder_of(pod)}"
    else:
        yield f"the endpoint belongs to Pod {endpoint.uid}, not to {pod.uid}"


def _of_attachment(nic: Nic, attachment: Attachment) -> Iterator[str]:
    if nic.container != attachment.container:
        held = f"container {nic.container}" if nic.container else "no container"
        yield f"interface {nic.interface} belongs to {held}, not to {attachment.container}"
    if nic.network and nic.network != attachment.network:
        yield f"interface {nic.interface} is of network {nic.network}, not of {attachment.network}"


def _of_result(nic: Nic, call: Call) -> Iterator[str]:
    """What the runtime remembers of the ADD, for this interface, against what is claimed."""
    if call.conf.previous is None:
        return
    said = {
        address.cidr
        for address in previous_addresses(call.conf.previous)
        if address.interface in ("", call.attachment.interface)
    }
    held = {cidr for cidr in (nic.ipv4, nic.ipv6) if cidr}
    for cidr in sorted(said - held):
        yield f"prevResult has {cidr}, which interface {nic.interface} does not hold"
    for cidr in sorted(held - said):
        yield f"interface {nic.interface} holds {cidr}, which prevResult does not have"
