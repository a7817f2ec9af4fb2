"""The network annotation of a Pod can name an IPAMClaim for a NIC.

A VM keeps the addresses of such a NIC.
"""

from __future__ import annotations

import json

import pytest

from core.domain.claims.claim_decisions import holder_of
from core.domain.fixed.fixed_address_owners import IpamClaimState, KnownOwners, MissingOwner
from core.domain.fixed.ipam_claims import CLAIM_CHARS_MAX, ipam_claims_of, pod_of_nic
from core.domain.fixed.owner_validity import validity_of
from core.domain.model import Owner, Pool
from core.domain.reclaim.decision_table import PodToVerify, VerdictContext, judge, judge_deleted
from core.domain.reclaim.evidence import NodeState, PodState
from core.domain.reclaim.settings import ReclaimSettings
from core.domain.request_facts import NamespaceFacts, NodeFacts, PodFacts, RequestFacts
from core.domain.selection.multus import NETWORKS_ANNOTATION
from core.domain.selection.pool_selection import select
from core.domain.selection.selection_request import SelectionRequest, SelectionSettings
from tests.core.domain.reclaim.scripted_cluster import SCRIPTED_KINDS, moment
from tests.support.cluster_snapshot import ClusterSnapshot, KindListing, ListedObjects

IPPOOLS = "ipam.spidernet.io/ippools"
POOLS = {
    name: Pool(name, 4, "10.6.0.0/16", (f"10.6.{number}.1-10.6.{number}.9",))
    for number, name in enumerate(("main", "lan", "storage"))
}


def networks(*elements: dict[str, str]) -> dict[str, str]:
    return {NETWORKS_ANNOTATION: json.dumps(elements)}


def element(name: str, claim: str = "", interface: str = "") -> dict[str, str]:
    texts = {"name": name, "interface": interface, "ipam-claim-reference": claim}
    return {key: text for key, text in texts.items() if text}


def test_a_network_names_the_ipam_claim_of_its_nic() -> None:
    annotations = networks(element("lan", "vm1.lan"), element("dmz"), element("db", "c", "db0"))

    ipam_claims = ipam_claims_of(annotations, "shop")

    # Each IPAMClaim has two keys: the position of its network, from 1, and the interface.
    assert ipam_claims == {"1": "vm1.lan", "net1": "vm1.lan", "3": "c", "db0": "c"}


@pytest.mark.parametrize(
    "annotations",
    [
        {},
        {NETWORKS_ANNOTATION: "lan,dmz"},
        networks(element("lan", "Not A Name")),
        networks(element("lan", "x" * (CLAIM_CHARS_MAX + 1))),
        {NETWORKS_ANNOTATION: '[{"ipam-claim-reference": '},
    ],
)
def test_an_annotation_without_a_valid_claim_name_names_no_ipam_claim(
    annotations: dict[str, str],
) -> None:
    assert not ipam_claims_of(annotations, "shop")


def test_only_a_nic_with_an_ipam_claim_has_the_ipam_claim_as_holder() -> None:
    ipam_claims = ipam_claims_of(networks(element("lan", "vm1.lan")), "shop")
    pod = PodFacts("shop", "launcher", "uid-1", claims=ipam_claims)

    pod_of_net1 = pod_of_nic(pod, "net1")

    assert holder_of(pod_of_nic(pod, "eth0")) == "pod/uid-1"
    assert holder_of(pod_of_net1) == "ipamclaim/shop/vm1.lan.ipamclaim"
    assert pod_of_net1.endpoint_key == ("shop", "vm1.lan.ipamclaim")


@pytest.mark.parametrize(
    ("interface", "allocated"), [("eth0", ["eth0", "net2"]), ("net1", ["net1"])]
)
def test_an_add_allocates_only_the_nics_of_its_endpoint(
    interface: str, allocated: list[str]
) -> None:
    """``net1`` has its own endpoint, because it has an IPAMClaim."""
    names = {"eth0": "main", "net1": "lan", "net2": "storage"}
    items = [{"interface": nic, "ipv4": [pool]} for nic, pool in names.items()]
    annotations = networks(element("lan", "vm1.lan"), element("storage")) | {
        IPPOOLS: json.dumps(items)
    }
    ipam_claims = ipam_claims_of(annotations, "shop")
    pod = PodFacts("shop", "p", "u", annotations=annotations, claims=ipam_claims)

    facts = RequestFacts(pod_of_nic(pod, interface), NamespaceFacts("shop"), NodeFacts("node-a"))
    selection = select(SelectionRequest(interface), facts, POOLS, SelectionSettings())

    assert [demand.interface for demand in selection.demands] == allocated


@pytest.mark.parametrize(
    ("claim", "state"),
    [
        (IpamClaimState("shop", "vm1.lan"), "valid"),
        (IpamClaimState("shop", "vm1.lan", deleting=True), "invalid"),
        (MissingOwner(certain=True, why="gone"), "invalid"),
        (MissingOwner(certain=False, why="no answer"), "unknown"),
    ],
)
def test_an_address_is_valid_while_its_ipam_claim_exists(
    claim: IpamClaimState | MissingOwner, state: str
) -> None:
    owners = KnownOwners({}, {}, {}, {("shop", "vm1.lan"): claim})

    assert validity_of("ipamclaim", "shop", "vm1.lan.ipamclaim", owners).state == state


VM = Owner("VirtualMachineInstance", "vm1", namespace="shop", api_version="kubevirt.io/v1")
IPAM_CLAIM = IpamClaimState("shop", "vm1.lan")
SOURCE = PodState("shop", "launcher-1", "source", ips=("10.9.0.1",), owner=VM, claims=("vm1.lan",))
"""The source Pod of a migration; it reports only the address of its default network."""

ENDPOINT_TO_VERIFY = PodToVerify(
    "shop", "vm1.lan.ipamclaim", uid="target", fixed="ipamclaim", addresses=("10.6.0.1",)
)
"""The endpoint has the UID of the target Pod, which does not exist any more."""


@pytest.mark.parametrize("source", [SOURCE, SOURCE._replace(ips=())])
@pytest.mark.parametrize("claims", [[IPAM_CLAIM], [IPAM_CLAIM._replace(deleting=True)], []])
@pytest.mark.parametrize("deletion_s", [None, 1.0])
def test_an_address_is_kept_while_a_pod_names_its_ipam_claim(
    source: PodState, claims: list[IpamClaimState], deletion_s: float | None
) -> None:
    facts = _facts([source._replace(deletion_s=deletion_s)], claims)
    settings = ReclaimSettings(ipam_claims=True, running_without_address=True)

    assert judge(ENDPOINT_TO_VERIFY, VerdictContext(facts, settings, now_s=100.0)).finding is None
    assert (
        judge_deleted(
            ENDPOINT_TO_VERIFY, "deleted", VerdictContext(facts, settings, now_s=100.0)
        ).finding
        is None
    )


@pytest.mark.parametrize(
    ("claims", "finding"),
    [([IPAM_CLAIM], None), ([IPAM_CLAIM._replace(deleting=True)], "owner-gone")],
)
def test_an_unused_address_is_kept_while_its_ipam_claim_exists(
    claims: list[IpamClaimState], finding: str | None
) -> None:
    facts = _facts([SOURCE._replace(claims=())], claims)

    verdict = judge(
        ENDPOINT_TO_VERIFY, VerdictContext(facts, ReclaimSettings(ipam_claims=True), now_s=100.0)
    )

    assert verdict.finding == finding


def _facts(pods: list[PodState], claims: list[IpamClaimState]) -> ClusterSnapshot:
    objects = ListedObjects(pods, [NodeState("node-a", ready=True)], ipam_claims=claims)
    listings = {kind: KindListing(moment(1.0)) for kind in SCRIPTED_KINDS}
    return ClusterSnapshot(objects, listings, moment(1.0))
