"""The console's answers about Pods and addresses at one instant."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from core.archive.replay import LogView
from core.audit.history import read_history
from core.audit.history_entries import ENTRIES_MAX, HistorySubject, stamp_of
from core.audit.holding_table import HoldingTable
from core.audit.indexed_log import LogInstant
from core.audit.past_adds import LogMoment, PastAdds, read_past_adds
from core.domain.addresses.address_set import AddressSet
from core.domain.addresses.ip_address import format_address, parse_address
from core.domain.events import AddressesClaimed, Recorded
from core.domain.fixed.fixed_address_owners import KEPT_UNTIL, FixedSettings, kind_of_holder
from core.domain.model import Endpoint, Nic, Pool
from core.domain.quarantine.quarantine_decisions import evidence_text
from core.domain.selection.error_texts import SOURCE_TEXTS, reason_of
from core.domain.subnets.subnet_model import owner_subnet_name
from core.errors import NotFound
from ops.console.address_states import AddressState
from ops.console.grid import mac_text
from ops.console.json_values import (
    Document,
    PageRequest,
    entry_document,
    instant_at,
    instant_document,
    orbctl_time_text,
    page_of,
    stamp_document,
    time_text,
)
from ops.console.pool_answers import PoolsAt, route_document

ENTRIES_SHOWN_MAX: Final = 1_000

assert ENTRIES_SHOWN_MAX <= ENTRIES_MAX, "a history must have all entries that are shown"


class AddressFilter(NamedTuple):
    """Conditions on addresses; "" matches every address."""

    state: str = ""
    pool: str = ""
    namespace: str = ""
    node: str = ""


async def timeline(view: LogView, instant: LogInstant, subject: HistorySubject) -> Document:
    """``Timeline`` of console-api.yaml. Raises NotFound if no event is about the subject."""
    entries = (await read_history(view, subject)).entries
    if not entries:
        raise NotFound(
            f"the log has no event about {subject}",
            subject=subject.kind,
            remedy="search for a part of the name",
        )
    past_entries = [entry for entry in entries if entry.began.position <= instant.position]
    shown_entries = past_entries[-ENTRIES_SHOWN_MAX:]
    return {
        "at": instant_document(instant),
        "subject": {"kind": subject.kind, "name": subject.name},
        "entries": [entry_document(entry, instant.position) for entry in shown_entries],
        "dropped": len(past_entries) - len(shown_entries),
    }


async def pod_answer(view: LogView, instant: LogInstant, namespace: str, name: str) -> Document:
    """``PodAnswer`` of console-api.yaml. Raises NotFound if no event is about the Pod."""
    key = namespace, name
    adds = await read_past_adds(view, key, LogMoment(position=instant.position))
    # If all events of a Pod are later than the instant, the answer's ``pod`` is None.
    if adds == PastAdds() and await read_past_adds(view, key) == PastAdds():
        raise NotFound(
            f"the log has no event about Pod {namespace}/{name}",
            subject="pod",
            remedy="search for a part of its name; `orbctl explain` shows why a Pod has no address",
        )
    pod = None if adds.endpoint is None else _pod(instant, adds.endpoint, adds.claims)
    return {"at": instant_document(instant), "pod": pod}


def pod_page(instant: LogInstant, namespace: str, request: PageRequest) -> Document:
    """``PodPage`` of console-api.yaml."""
    log, position = instant.log, instant.position
    pools = log.pools.at(position)
    # Pod -> (address as a number, address as text, node)
    addresses_of_pod: defaultdict[str, list[tuple[int, str, str]]] = defaultdict(list)
    for pool, table in log.holdings.items():
        family = pools[pool].family if pool in pools else 4  # undefined pool: assume IPv4
        for row in table.rows_at(position):
            name = table.pods[row]
            if not namespace or name.startswith(f"{namespace}/"):
                value = table.value(row)
                address = format_address(family, value)
                addresses_of_pod[name].append((value, address, table.node(row)))
    items, page = page_of(sorted(addresses_of_pod), request)
    return {
        "at": instant_document(instant),
        "items": [
            {
                **namespace_and_name(name),
                "node": addresses_of_pod[name][0][2],
                "addresses": [address for _, address, _ in sorted(addresses_of_pod[name])],
            }
            for name in items
        ],
        **page,
    }


def address_page(pools: PoolsAt, query: AddressFilter, request: PageRequest) -> Document:
    """``AddressPage`` of console-api.yaml. An address in cool-down has the state ``resting``."""
    items = [
        item
        for pool in sorted(pools.configuration.pools.values(), key=lambda pool: pool.name)
        if query.pool in {"", pool.name}
        for item in _matching_addresses(pools, pool, query)
    ]
    shown, page = page_of(items, request)
    return {
        "at": instant_document(pools.instant),
        "items": [_address(pools, *item) for item in shown],
        **page,
    }


def address_answer(pools: PoolsAt, address: str) -> Document:
    """``AddressAnswer`` of console-api.yaml."""
    parsed = parse_address(address)
    value = parsed.value
    states_of_pools = [
        (pool, state)
        for pool in sorted(pools.configuration.pools.values(), key=lambda pool: pool.name)
        if pool.family == parsed.family
        for state, addresses in pools.states(pool).states.items()
        if value in addresses
    ]
    answer: Document = {
        "at": instant_document(pools.instant),
        "address": address,
        "state": "outside",
        "pools": [pool.name for pool, _ in states_of_pools],
        "quarantine": "",
        "reservation": "",
        "holding": None,
    }
    states_of_pools.sort(key=lambda item: _PRECEDENCE.index(item[1]))
    if states_of_pools:
        pool, state = states_of_pools[0]
        answer["state"] = state
        row = pools.instant.log.table(pool.name).row_at(value, pools.instant.position)
        cool_down = pools.states(pool).cool_downs.get(value)
        if row is not None:
            answer["holding"] = _address(pools, pool, value, row, "allocated")
        elif cool_down is not None and state == "resting":
            answer["holding"] = _address(pools, pool, value, cool_down.row, "resting")
    quarantine = pools.configuration.quarantine.get(address)
    if quarantine is not None:
        evidence = evidence_text(quarantine)
        answer["quarantine"] = "; ".join(filter(None, (quarantine.reason, evidence)))
    for reservation in pools.configuration.reservations.values():
        if reservation.family == parsed.family and value in AddressSet.from_items(
            reservation.ips, reservation.family
        ):
            answer["reservation"] = reservation.name
    return answer


_PRECEDENCE: Final[tuple[AddressState, ...]] = (
    "allocated",
    "quarantined",
    "reserved",
    "resting",
    "free",
    "excluded",
    "outside",
)
"""If several pools contain an address, the answer has the state that is first here."""


def namespace_and_name(pod: str) -> Document:
    """Split ``NAMESPACE/NAME``."""
    namespace, _, name = pod.partition("/")
    return {"namespace": namespace, "name": name}


def _matching_addresses(
    pools: PoolsAt, pool: Pool, query: AddressFilter
) -> Iterator[tuple[Pool, int, int, AddressState]]:
    """Pool, address, table row and state, by ascending address."""
    table, states = pools.instant.log.table(pool.name), pools.states(pool)
    rows: list[tuple[int, int, AddressState]] = []
    if query.state in {"", "allocated"}:
        rows += [
            (table.value(row), row, "allocated") for row in table.rows_at(pools.instant.position)
        ]
    if query.state in {"", "resting"}:
        in_cool_down = states.states["resting"]
        rows += [
            (value, cool_down.row, "resting")
            for value, cool_down in states.cool_downs.items()
            if value in in_cool_down
        ]
    for value, row, state in sorted(rows):
        if query.node and table.node(row) != query.node:
            continue
        if query.namespace and not table.pods[row].startswith(f"{query.namespace}/"):
            continue
        yield pool, value, row, state


def _address(pools: PoolsAt, pool: Pool, value: int, row: int, state: AddressState) -> Document:
    log = pools.instant.log
    holding = log.table(pool.name).holding(row)
    namespace, _, pod = holding.holder.pod.partition("/")
    since = holding.holder.revision if state == "allocated" else holding.ended
    until = pools.states(pool).cool_downs[value].until_ms if state == "resting" else 0
    return {
        "address": format_address(pool.family, value),
        "state": state,
        "pool": pool.name,
        "namespace": namespace,
        "pod": pod,
        "node": holding.holder.node,
        "interface": holding.holder.interface,
        "mac": mac_text(holding.holder.mac),
        "since": instant_at(since, log.clock.time_of(since)),
        "until": time_text(until) if until else None,
    }


def _pod(instant: LogInstant, endpoint: Endpoint, claims: Sequence[Recorded]) -> Document:
    claimed = stamp_of(claims[-1]) if claims else None
    return {
        "namespace": endpoint.namespace,
        "name": endpoint.name,
        "uid": endpoint.uid,
        "node": endpoint.node,
        "holder": endpoint.holder,
        "owner": {"kind": endpoint.owner_kind, "name": endpoint.owner_name},
        "interfaces": [_interface(nic) for nic in endpoint.nics],
        "why": list(dict.fromkeys([*_choices(claims), *_reasons(instant, endpoint)])),
        "traceId": claimed.trace_id if claimed else "",
        "claimed": stamp_document(claimed) if claimed else None,
    }


def _interface(nic: Nic) -> Document:
    pairs = (
        (nic.ipv4, nic.ipv4_pool, nic.ipv4_gateway),
        (nic.ipv6, nic.ipv6_pool, nic.ipv6_gateway),
    )
    return {
        "name": nic.interface,
        "mac": nic.mac,
        "vlan": nic.vlan,
        "network": nic.network,
        "container": nic.container,
        "addresses": [
            {"address": cidr, "pool": pool, "gateway": gateway}
            for cidr, pool, gateway in pairs
            if cidr
        ],
        "routes": [route_document(route) for route in nic.routes],
        "cleanGateway": nic.clean_gateway,
    }


def _choices(claims: Sequence[Recorded]) -> Iterator[str]:
    for recorded in claims:
        event = recorded.event
        assert isinstance(event, AddressesClaimed), "PastAdds.claims must be AddressesClaimed"
        if event.source:
            words = SOURCE_TEXTS.get(event.source, event.source)
            yield f"The IPPools of the request came from {words}."
        for verdict in event.passed_over:
            rule = f"by the rule {verdict.rule}: {reason_of(verdict)}"
            yield f"IPPool {verdict.pool} was skipped for {verdict.interface} {rule}."


def _reasons(instant: LogInstant, endpoint: Endpoint) -> Iterator[str]:
    log, position = instant.log, instant.position
    for address, name in endpoint.addresses():
        table = log.table(name)
        row = table.row_at(parse_address(address).value, position)
        claimed = table.holder(row).revision if row is not None else 0
        time_ms = log.clock.time_of(claimed)
        when = f" at {orbctl_time_text(time_ms)}" if claimed and time_ms else ""
        yield f"{address} was claimed from IPPool {name}{when}, at position {claimed}."
        pool = log.pools.get(name, position)
        if pool is not None:
            yield from (f"IPPool {name} {text}." for text in _traits(pool))
    # The console does not know the agents' settings, so it assumes all kinds of fixed addresses.
    kind = kind_of_holder(endpoint.holder, FixedSettings(ipam_claims=True))
    if kind is None:
        yield "The addresses belong to this Pod and are released when it ends."
    else:
        which = "whatever Pod runs under this name"
        yield f"The addresses stay with {endpoint.holder}, {which}, {KEPT_UNTIL[kind]}."


def _traits(pool: Pool) -> Iterator[str]:
    """Ends of sentences that begin with "IPPool NAME"."""
    if pool.default:
        yield "is a default pool: it serves Pods that name no pool"
    if pool.node_names or pool.node_affinity:
        yield f"serves nodes: {', '.join(pool.node_names) or 'by labels'}"
    if pool.namespace_names or pool.namespace_affinity:
        yield f"serves namespaces: {', '.join(pool.namespace_names) or 'by labels'}"
    if pool.pod_affinity:
        yield "serves Pods with certain labels"
    if pool.multus_names:
        yield f"serves the networks {', '.join(pool.multus_names)}"
    if owner_subnet_name(pool):
        yield f"belongs to the subnet {owner_subnet_name(pool)}"


def released_answer(instant: LogInstant, node: str, limit: int) -> Document:
    """``ReleasedAnswer`` of console-api.yaml, the latest release first."""
    ended = [
        (table.ended(row), pool, table, row)
        for pool, table in instant.log.holdings.items()
        for row in table.rows_ended_on(node, instant.position, limit + 1)
    ]
    ended.sort(key=lambda item: (-item[0], item[1], item[3]))
    return {
        "at": instant_document(instant),
        "items": [
            _released_item(instant, pool, table, row) for _, pool, table, row in ended[:limit]
        ],
        "truncated": len(ended) > limit,
    }


def _released_item(instant: LogInstant, pool: str, table: HoldingTable, row: int) -> Document:
    holding, clock = table.holding(row), instant.log.clock
    newest = instant.log.pools.current_or_deleted(pool)
    pod = namespace_and_name(holding.holder.pod)
    return {
        "address": format_address(newest.family if newest is not None else 4, holding.value),
        "pool": pool,
        "namespace": pod["namespace"],
        "pod": pod["name"],
        "since": instant_at(holding.began, clock.time_of(holding.began)),
        "until": instant_at(holding.ended, clock.time_of(holding.ended)),
    }
