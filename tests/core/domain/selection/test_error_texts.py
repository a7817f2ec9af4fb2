"""The reasons that `orbctl explain` prints, and the texts of errors."""

from __future__ import annotations

import pytest

from core.domain.model import Pool
from core.domain.request_facts import NamespaceFacts, NodeFacts, PodFacts, RequestFacts
from core.domain.selection import error_texts
from core.domain.selection.pool_annotations import POD_IPPOOLS
from core.domain.selection.pool_selection import requested_pools, select
from core.domain.selection.selection_request import (
    CandidateVerdict,
    SelectionRequest,
    SelectionSettings,
)
from core.errors import AllocationError, NoPoolAvailable, WrongInput

POOLS = {
    "p1": Pool("p1", 4, "10.0.0.0/16"),
    "p2": Pool("p2", 4, "10.0.0.0/16", node_names=("n2",)),
    "p3": Pool("p3", 4, "10.0.0.0/16", namespace_names=("shop",)),
    "p6": Pool("p6", 6, "fd00::/64"),
    "off": Pool("off", 4, "10.0.0.0/16", disabled=True),
}


def facts(ippools: str) -> RequestFacts:
    return RequestFacts(
        PodFacts("shop", "web-0", "uid-1", node="n1", annotations={POD_IPPOOLS: ippools}),
        NamespaceFacts("shop"),
        NodeFacts("n1"),
    )


def test_a_selection_has_demands_verdicts_and_notes() -> None:
    ippools = """[
        {"interface": "eth0", "ipv4": ["p1", "p2", "off", "p3", "x*"], "ipv6": ["p6"]},
        {"interface": "net1", "ipv4": ["p1"], "cleangateway": true},
        {"interface": "net2"}
    ]"""

    selection = select(SelectionRequest("eth0"), facts(ippools), POOLS, SelectionSettings())

    detail = "nodeName [n2], the Pod is on 'n1'"
    assert [
        (demand.interface, demand.family, demand.pools, demand.clean_gateway)
        for demand in selection.demands
    ] == [
        ("eth0", 4, ("p3", "p1"), False),  # p3 is first because p3 names the namespace
        ("eth0", 6, ("p6",), False),
        ("net1", 4, ("p1",), True),
    ]
    assert list(error_texts.describe_verdicts(selection.verdicts)) == [
        "  p1: accepted by every rule",
        f"  p2: rejected by node-name: unmatched Node name of IPPool p2 ({detail})",
        "  off: rejected by disabled: disabled IPPool off",
        "  p3: accepted by every rule",
        "  p6: accepted by every rule",
        "  p1: accepted by every rule",
    ]
    assert [(note.interface, note.text) for note in selection.notes] == [
        ("eth0", "pattern 'x*' matches no IPv4 IPPool"),
        ("net2", "it names no IPPool"),
    ]


def test_the_verdicts_of_a_failed_selection_are_described() -> None:
    ippools = '[{"ipv4": ["off"]}, {"ipv4": ["p1"]}]'

    with pytest.raises(NoPoolAvailable) as caught:
        select(SelectionRequest("eth0"), facts(ippools), POOLS, SelectionSettings())

    verdicts = [
        verdict for verdict in caught.value.verdicts if isinstance(verdict, CandidateVerdict)
    ]
    assert list(error_texts.describe_verdicts(verdicts)) == [
        "  off: rejected by disabled: disabled IPPool off",
        "  p1: accepted by every rule",
    ]


def test_requested_pools_reports_a_bad_annotation_without_the_standard_mode_prefix() -> None:
    with pytest.raises(WrongInput) as caught:
        requested_pools(SelectionRequest("eth0"), facts("[]"), POOLS, SelectionSettings())

    assert caught.value.message.startswith("wrong input, invalid format of Pod annotation")


def test_requested_pools_lists_missing_and_disabled_pools() -> None:
    ippools = '[{"ipv4": ["off", "missing"]}, {}]'

    listed = requested_pools(SelectionRequest("eth0"), facts(ippools), POOLS, SelectionSettings())

    assert [(nic.interface, nic.ipv4) for nic in listed.nics] == [
        ("0", ("off", "missing")),
        ("1", ()),
    ]


def test_the_standard_mode_prefix_changes_only_the_message_of_an_error() -> None:
    verdict = CandidateVerdict(
        "eth0", 4, pool="a", accepted=False, rule="disabled", reason="disabled IPPool a"
    )
    error = NoPoolAvailable("no", subject="Pod/a/b", remedy="do", verdicts=(verdict,))

    prefixed = error_texts.with_standard_mode_prefix(error)

    assert type(prefixed) is NoPoolAvailable
    assert prefixed.message == "failed to allocate IP addresses in standard mode: no"
    assert (prefixed.subject, prefixed.remedy, prefixed.verdicts) == ("Pod/a/b", "do", (verdict,))


def test_an_allocation_error_has_no_verdicts_by_default() -> None:
    assert AllocationError("no").verdicts == ()


def test_several_reasons_are_in_brackets_and_equal_reasons_are_reported_once() -> None:
    assert error_texts.aggregate(["a"]) == "a"
    assert error_texts.aggregate(["a", "b", "a"]) == "[a, b]"


def test_a_pod_with_more_nics_than_annotation_items_gets_an_error() -> None:
    ippools = '[{"ipv4": ["p1"]}, {"ipv4": ["p3"]}]'
    selection = select(SelectionRequest("eth0"), facts(ippools), POOLS, SelectionSettings())

    error = error_texts.no_item_left(selection)

    assert error.message == (
        "no IPPool available, Pod annotation 'ipam.spidernet.io/ippools' has 2 items, "
        "and none is left for this NIC"
    )
    assert error.verdicts == selection.verdicts
