"""Find the IPAMClaims in the networks annotation of a Pod. Pure.

The endpoint of an IPAMClaim (``k8s.cni.cncf.io/v1alpha1``, a standard of the Network Plumbing
Working Group) keeps the addresses of one NIC when the Pod is deleted. Whether the IPAMClaim
exists is not checked.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from core.domain.fixed.fixed_address_owners import IPAM_CLAIM_SUFFIX, endpoint_of_ipam_claim
from core.domain.name_syntax import SUBDOMAIN_CHARS_MAX, is_dns_label
from core.domain.request_facts import PodFacts
from core.domain.selection.multus import CLAIM_REFERENCE, NETWORKS_ANNOTATION, parse_networks
from core.errors import BadInput

CLAIM_CHARS_MAX: Final = SUBDOMAIN_CHARS_MAX - len(IPAM_CLAIM_SUFFIX)  # for a valid endpoint name

NO_CLAIMS: Final[Mapping[str, str]] = {}


def ipam_claims_of(annotations: Mapping[str, str], namespace: str) -> Mapping[str, str]:
    """NIC -> IPAMClaim. A NIC has two keys: the interface, and the index in the annotation.

    Invalid names are left out. The result is empty if the annotation cannot be parsed, because
    Multus rejects such a Pod.
    """
    text = annotations.get(NETWORKS_ANNOTATION, "")
    if CLAIM_REFERENCE not in text:
        return NO_CLAIMS
    try:
        networks = parse_networks(text, namespace)
    except BadInput:
        return NO_CLAIMS
    return {
        name: network.claim
        for index, network in enumerate(networks, start=1)
        if network.claim and _is_claim_name(network.claim)
        for name in (str(index), network.interface or f"net{index}")
    }


def pod_of_nic(pod: PodFacts, interface: str) -> PodFacts:
    """The Pod's facts for this NIC: with the endpoint of the NIC's IPAMClaim, if any."""
    claim = pod.claims.get(interface, "")
    if not claim:
        return pod
    return pod._replace(
        fixed="ipamclaim", endpoint_name=endpoint_of_ipam_claim(claim), ipam_claim=claim
    )


def _is_claim_name(name: str) -> bool:
    return len(name) <= CLAIM_CHARS_MAX and all(map(is_dns_label, name.split(".")))
