"""``why_kept`` says why a Pod, a replica, a VM or an IPAMClaim keeps its address."""

from __future__ import annotations

import pytest

from core.domain.events import RecordDefined
from core.domain.model import Endpoint
from ops.cli.kept_addresses import why_kept

STATEFUL_SET = "StatefulSet"


@pytest.mark.parametrize(
    ("holder", "words"),
    [
        ("pod/uid-web-0", ["by this Pod until it ends", "CNI DEL"]),
        ("statefulset/shop/web-0", ["by statefulset/shop/web-0", "scaled down below this replica"]),
        ("vm/shop/web-0", ["by vm/shop/web-0", "until the VM is deleted"]),
        ("ipamclaim/shop/web-0", ["by ipamclaim/shop/web-0", "until the IPAMClaim is deleted"]),
    ],
)
def test_the_reason_names_the_holder_and_the_end_of_the_claim(
    holder: str, words: list[str]
) -> None:
    why = why_kept(_endpoint(holder), {})
    assert all(word in why for word in words), why


def test_an_address_is_kept_only_while_its_stateful_set_has_the_replica() -> None:
    key = STATEFUL_SET, "shop", "web"
    one_replica = {key: RecordDefined(*key, replicas=1)}
    no_replica = {key: RecordDefined(*key, replicas=0)}

    assert "StatefulSet shop/web has replica 0" in why_kept(_endpoint("statefulset/x"), one_replica)
    assert why_kept(_endpoint("statefulset/x"), no_replica).startswith("no longer needed")


def _endpoint(holder: str) -> Endpoint:
    return Endpoint(
        "shop",
        "web-0",
        uid="uid-web-0",
        node="node-a",
        holder=holder,
        owner_kind=STATEFUL_SET,
        owner_name="web",
    )
