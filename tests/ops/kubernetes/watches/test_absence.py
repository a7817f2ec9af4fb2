"""The requests of a scan: cached Pods keep addresses, and only an answer can release them."""

from __future__ import annotations

from typing import Any

from core.domain.evolution import Ledger, RevisedClaim
from core.domain.fixed.owners import FixedSettings, KnownOwners, MissingOwner, StatefulSetState
from core.domain.model import Claim, Endpoint, Nic, pod_holder
from core.domain.reclaim.cluster import PodState
from core.domain.reclaim.evidence import Moment
from core.kubernetes.informer import ObjectKey
from ops.kubernetes.watches.ledger_facts import LedgerFacts
from ops.kubernetes.watches.suspects import PodLookups, WatchedObjects, plan_lookups

SWITCHES = FixedSettings()
NOBODY = KnownOwners({}, {}, {})
WEB = ("shop", "web-0")


def endpoint(name: str, uid: str, address: str, holder: str = "") -> Endpoint:
    nic = Nic("eth0", f"{address}/16", "main")
    return Endpoint("shop", name, uid, "n1", holder or pod_holder(uid), "Pod", name, (nic,))


def ledger(*endpoints: Endpoint, strays: dict[str, Claim] | None = None) -> Ledger:
    found = Ledger()
    for one in endpoints:
        found.endpoints[one.key] = one
        for address, pool in one.addresses():
            found.claims[address] = RevisedClaim(Claim(pool, one.holder, *one.key, "e"), 1)
    for address, claim in (strays or {}).items():
        found.claims[address] = RevisedClaim(claim, 1)
    return found


def asked(
    of: Ledger, *pods: PodState, owners: KnownOwners = NOBODY, read_all: bool = False
) -> PodLookups:
    named = {(pod.namespace, pod.name): pod for pod in pods}
    by_uid = {pod.uid: pod for pod in pods}
    watched = WatchedObjects(named.get, by_uid.get, owners)
    return plan_lookups(of, SWITCHES, watched, read_all=read_all)


def pod(name: str, uid: str, **fields: object) -> PodState:
    return PodState("shop", name, uid)._replace(**fields)  # type: ignore[arg-type]


def test_nobody_asks_about_a_living_pod_that_has_what_is_its_own() -> None:
    living = pod("web-0", "u1")

    found = asked(ledger(endpoint("web-0", "u1", "10.6.0.1")), living)

    assert found == PodLookups({}, frozenset(), {WEB: living})


def test_a_look_at_one_endpoint_asks_about_a_living_pod_too() -> None:
    found = asked(ledger(endpoint("web-0", "u1", "10.6.0.1")), pod("web-0", "u1"), read_all=True)

    assert found.pods == {WEB}
    assert not found.answers


def test_a_pod_that_was_not_seen_or_is_another_one_or_ends_is_asked_about() -> None:
    of = ledger(
        endpoint("web-0", "u1", "10.6.0.1"),
        endpoint("web-1", "u2", "10.6.0.2"),
        endpoint("web-2", "u3", "10.6.0.3"),
    )

    found = asked(of, pod("web-1", "other"), pod("web-2", "u3", deletion_s=1.0))

    assert found.pods == {WEB, ("shop", "web-1"), ("shop", "web-2")}


def test_a_claim_that_no_endpoint_shows_is_asked_about() -> None:
    stray = {"10.6.0.9": Claim("main", pod_holder("u9"), "shop", "web-0", "e")}

    found = asked(ledger(endpoint("web-0", "u1", "10.6.0.1"), strays=stray), pod("web-0", "u1"))

    assert found.pods == {WEB}


def test_a_replica_that_its_set_wants_is_kept_unasked() -> None:
    of = ledger(endpoint("db-0", "u1", "10.6.0.1", "statefulset/shop/db-0"))
    owners = KnownOwners({("shop", "db"): StatefulSetState("shop", "db", 1)}, {}, {})

    found = asked(of, owners=owners)

    answer = found.answers["shop", "db-0"]
    assert isinstance(answer, MissingOwner)
    assert not answer.certain
    assert not found.pods | found.owners()


def test_a_replica_that_was_seen_to_be_wanted_no_more_is_asked_about() -> None:
    of = ledger(endpoint("db-1", "u1", "10.6.0.1", "statefulset/shop/db-1"))
    owners = KnownOwners({("shop", "db"): StatefulSetState("shop", "db", 1)}, {}, {})

    found = asked(of, owners=owners)

    assert found.pods == {("shop", "db-1")}
    assert found.owners() == {("statefulset", ("shop", "db-1"))}


def test_the_launcher_of_a_vm_is_asked_about_by_its_own_name() -> None:
    of = ledger(endpoint("vm-a", "u1", "10.6.0.1", "vm/shop/vm-a"))

    found = asked(of, pod("virt-launcher-vm-a-x", "u1"), read_all=True)

    assert found.pods == {("shop", "vm-a"), ("shop", "virt-launcher-vm-a-x")}


class Table:
    """Cached Pods, as ``PodTable`` returns them."""

    def __init__(self, *pods: PodState) -> None:
        self._pods = pods

    def of_uid(self, uid: str) -> list[PodState]:
        return [pod for pod in self._pods if pod.uid == uid]

    def reporters(self, address: str) -> list[PodState]:
        return [pod for pod in self._pods if address in pod.ips]

    def launchers(self, instance: ObjectKey) -> list[PodState]:
        return list(self._pods)


def answers(told: PodState | MissingOwner, *seen: PodState) -> LedgerFacts:
    of = ledger(endpoint("web-0", "u1", "10.6.0.1"))
    found = LedgerFacts(Moment(0.0), {WEB: told}, NOBODY, {})
    table: Any = Table(*seen)
    found.add_watched_pods(of, asked(of, read_all=True).suspects, table)
    return found


def test_an_answer_is_newer_than_what_was_seen() -> None:
    seen = pod("web-0", "u1", ips=("10.6.0.1",))
    gone = answers(MissingOwner(certain=True, why="gone"), seen)
    ending = answers(seen._replace(deletion_s=5.0), seen)
    another = answers(pod("web-0", "u2"), seen)

    assert gone.pod_of_uid("u1") is None
    assert gone.reporter("10.6.0.1") is None
    assert gone.launcher("shop", "web-0") is None
    assert ending.pod_of_uid("u1") == seen._replace(deletion_s=5.0)
    assert ending.reporter("10.6.0.1") is None
    assert another.pod_of_uid("u1") is None


def test_what_was_seen_counts_where_nobody_could_answer() -> None:
    seen = pod("web-0", "u1", ips=("10.6.0.1",))
    found = answers(MissingOwner(certain=False, why="away"), seen)

    assert found.pod_of_uid("u1") == seen
    assert found.reporter("10.6.0.1") == seen


def test_what_nobody_has_asked_about_is_unknown() -> None:
    found = answers(MissingOwner(certain=True, why="gone"))

    for unasked in (
        found.pod("shop", "other"),
        found.node("n9"),
        found.stateful_set("shop", "db"),
        found.vmi("shop", "vm"),
        found.vm("shop", "vm"),
    ):
        assert isinstance(unasked, MissingOwner)
        assert not unasked.certain
