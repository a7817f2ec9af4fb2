"""CHECK: compares the result of the ADD with etcd. CHECK repairs nothing.

One error reports all differences. The CHECK of the coordinator reads the kernel's state.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from core.domain.claims.claim_decisions import holder_of
from core.domain.fixed.ipam_claims import pod_of_nic
from core.domain.model import Attachment, Endpoint, Nic
from core.domain.request_facts import PodFacts
from core.eventstore.codec import CLAIM_CODEC, ENDPOINT_CODEC
from core.eventstore.keys import Keys
from core.eventstore.kv import Get, KeyValueStore
from nodeagent.cni_protocol.cni_call import Call
from nodeagent.cni_protocol.failures import CHECK_FAILED, CniFailure
from nodeagent.cni_protocol.netconf import previous_addresses
from nodeagent.pod_facts import FactsSource

REMEDY: Final = (
    "delete the Pod; its controller creates a new Pod. `orbctl history` lists what happened"
    " to its addresses"
)


class CheckHandler:
    """Handles CHECKs."""

    def __init__(self, store: KeyValueStore, keys: Keys, facts: FactsSource) -> None:
        self._store = store
        self._keys = keys
        self._facts = facts

    async def handle_check(self, call: Call) -> None:
        """Raises CniFailure with all differences, or StoreError if etcd cannot be read."""
        pod = pod_of_nic(self._facts.facts(call.pod).pod, call.attachment.interface)
        differences = await self._differences(call, pod)
        if differences:
            raise CniFailure(CHECK_FAILED, f"CHECK failed: {'; '.join(differences)}", REMEDY)

    async def _differences(self, call: Call, pod: PodFacts) -> list[str]:
        key = pod.endpoint_key
        name = "/".join(key)
        kvs = (await self._store.read([Get(self._keys.endpoint(*key))])).ranges[0].kvs
        if not kvs:
            return [f"there is no endpoint {name}"]
        endpoint = ENDPOINT_CODEC.decode(kvs[0].value)
        nic = endpoint.find(call.attachment.interface)
        if nic is None:
            return [f"endpoint {name} has no interface {call.attachment.interface}"]
        differences: list[str] = []
        if not _is_handed_over(endpoint, pod):
            differences += _holder_differences(endpoint, pod)
            differences += _attachment_differences(nic, call.attachment)
        differences += _result_differences(nic, call)
        differences += await self._claim_differences(endpoint, nic)
        return differences

    async def _claim_differences(self, endpoint: Endpoint, nic: Nic) -> Sequence[str]:
        pairs = nic.addresses()
        if not pairs:
            return [f"interface {nic.interface} has no address"]
        gets = [Get(self._keys.ip_of(address)) for address, _ in pairs]
        ranges = (await self._store.read(gets)).ranges
        differences = []
        for (address, pool), result in zip(pairs, ranges, strict=True):
            if not result.kvs:
                differences.append(f"address {address} is not claimed")
                continue
            claim = CLAIM_CODEC.decode(result.kvs[0].value)
            if claim.holder != endpoint.holder:
                differences.append(f"address {address} is held by {claim.holder}")
            if claim.pool != pool:
                differences.append(f"address {address} is from pool {claim.pool}, not from {pool}")
        return differences


def _is_handed_over(endpoint: Endpoint, pod: PodFacts) -> bool:
    """Whether a live migration has given the endpoint to another launcher Pod of the VM."""
    return (
        pod.fixed in {"vm", "ipamclaim"}
        and endpoint.holder == holder_of(pod)
        and endpoint.uid != pod.uid
    )


def _holder_differences(endpoint: Endpoint, pod: PodFacts) -> Iterator[str]:
    if endpoint.uid == pod.uid:
        return
    if endpoint.holder != holder_of(pod):
        yield f"the endpoint belongs to {endpoint.holder}, not to {holder_of(pod)}"
    else:
        yield f"the endpoint belongs to Pod {endpoint.uid}, not to {pod.uid}"


def _attachment_differences(nic: Nic, attachment: Attachment) -> Iterator[str]:
    if nic.container != attachment.container:
        owner = f"container {nic.container}" if nic.container else "no container"
        yield f"interface {nic.interface} belongs to {owner}, not to {attachment.container}"
    if nic.network and nic.network != attachment.network:
        yield f"interface {nic.interface} is in network {nic.network}, not in {attachment.network}"


def _result_differences(nic: Nic, call: Call) -> Iterator[str]:
    if call.conf.previous is None:
        return
    result_cidrs = {
        address.cidr
        for address in previous_addresses(call.conf.previous)
        if address.interface in ("", call.attachment.interface)
    }
    nic_cidrs = {cidr for cidr in (nic.ipv4, nic.ipv6) if cidr}
    for cidr in sorted(result_cidrs - nic_cidrs):
        yield f"prevResult has {cidr}, which interface {nic.interface} does not hold"
    for cidr in sorted(nic_cidrs - result_cidrs):
        yield f"interface {nic.interface} holds {cidr}, which prevResult does not have"
