"""The overview of the cluster at one instant. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Final, Literal, NamedTuple

from core.audit.indexed_log import LogInstant
from core.eventstore.keys import CONTROLLER_WRITERS
from ops.console.json_values import (
    Document,
    PageRequest,
    clamped,
    instant_at,
    instant_document,
    orbctl_time_text,
    page_of,
    time_text,
)
from ops.console.pool_answers import PoolsAt

LISTED_MAX: Final = 200
"""Pools, subnets or agents in one answer."""

ALARMS_MAX: Final = 200
NEARLY_FULL: Final = 0.9
"""A utilisation. The Helm chart's alert has the same value."""

SOON_S: Final = 7 * 86_400.0

ORBCTL_WRITERS: Final = f"{CONTROLLER_WRITERS}orbctl-"


class Present(NamedTuple):
    """State that is in etcd but not in the log."""

    leader: str = ""
    leads_since_ms: int = 0
    store_alarms: tuple[str, ...] = ()
    paused_executions: int = 0


def overview(pools: PoolsAt, present: Present | None) -> Document:
    """``Overview`` of console-api.yaml; ``present`` is None for a past instant."""
    log, position = pools.instant.log, pools.instant.position
    listed = [pools.summary(pool) for pool in pools.fullest()[:LISTED_MAX]]
    subnets = [pools.subnet_summary(subnet) for subnet in pools.subnets.values()]
    subnets.sort(key=lambda subnet: (-subnet["utilisation"], subnet["name"]))
    agents = sorted(agents_at(pools.instant), key=lambda agent: -agent["last"]["position"])
    totals = pools.totals()
    totals4, totals6 = totals[4], totals[6]
    tables = log.holdings.values()
    # names of Pods, as bytes
    pods = set().union(*(table.pods.encoded(table.rows_at(position)) for table in tables))
    return {
        "at": instant_document(pools.instant),
        "totals": {
            "pools": len(pools.configuration.pools),
            "subnets": len(pools.subnets),
            "reservations": len(pools.configuration.reservations),
            "pods": len(pods),
            "nodes": sum(agent["kind"] == "agent" for agent in agents),
            "counts": {name: clamped(count + totals6[name]) for name, count in totals4.items()},
            "counts4": totals4,
            "counts6": totals6,
        },
        "pools": listed,
        "subnets": subnets[:LISTED_MAX],
        "alarms": _alarms(pools, listed, subnets, present),
        "agents": agents[:LISTED_MAX],
        "leader": {"name": present.leader, "since": time_text(present.leads_since_ms)}
        if present is not None and present.leader
        else None,
    }


def agents_at(instant: LogInstant) -> list[Document]:
    """Every ``Agent`` of console-api.yaml with an event up to the instant, sorted by name."""
    log, position = instant.log, instant.position
    nodes: dict[str, int] = {}
    for table in log.holdings.values():
        for node, count in table.nodes_at(position).items():
            nodes[node] = nodes.get(node, 0) + count
    return list(_agents(instant, nodes))


def agent_page(instant: LogInstant, request: PageRequest) -> Document:
    """``AgentPage`` of console-api.yaml."""
    items, page = page_of(agents_at(instant), request)
    return {"at": instant_document(instant), "items": list(items), **page}


def _agents(instant: LogInstant, nodes: Mapping[str, int]) -> Iterator[Document]:
    log = instant.log
    for writer in sorted(log.writers):
        segments, last_position = log.written_by(writer, instant.position)
        if not segments:
            continue
        kind = _kind_of(writer)
        node = writer if kind == "agent" else ""
        yield {
            "name": writer,
            "kind": kind,
            "node": node,
            "segments": segments,
            "addresses": nodes.get(node, 0),
            "last": instant_at(last_position, log.clock.time_of(last_position)),
        }


def _kind_of(writer: str) -> Literal["agent", "controller", "orbctl"]:
    if writer.startswith(ORBCTL_WRITERS):
        return "orbctl"
    return "controller" if writer.startswith(CONTROLLER_WRITERS) else "agent"


def _alarms(
    pools: PoolsAt,
    summaries: Sequence[Document],
    subnets: Sequence[Document],
    present: Present | None,
) -> list[Document]:
    alarms = list(_present_alarms(present)) if present is not None else []
    for summary in summaries:
        alarms.extend(_pool_alarms(summary, pools.instant.time_ms))
    alarms += [
        _alarm(
            severity="info",
            code="SubnetFull",
            kind="subnet",
            name=subnet["name"],
            message="all addresses of the subnet belong to pools",
            remedy="add ranges to the subnet before more automatic pools are needed",
        )
        for subnet in subnets
        if subnet["total"] and not subnet["free"]
    ]
    quarantined = len(pools.configuration.quarantine)
    if quarantined:
        alarms.append(
            _alarm(
                severity="warning",
                code="Quarantined",
                kind="address",
                name="",
                message=_quarantine_message(quarantined),
                remedy="find the host by its MAC address;"
                " `orbctl quarantine list` lists the addresses",
            )
        )
    rank = {"critical": 0, "warning": 1, "info": 2}
    alarms.sort(key=lambda alarm: rank[alarm["severity"]])
    return alarms[:ALARMS_MAX]


def _quarantine_message(count: int) -> str:
    if count == 1:
        return "1 address is in quarantine: another host uses it, or a user has quarantined it"
    return (
        f"{count} addresses are in quarantine: another host uses them, or a user has quarantined"
        " them"
    )


def _pool_alarms(summary: Document, now_ms: int) -> Iterator[Document]:
    counts, name = summary["counts"], summary["name"]
    usage = f"{counts['allocated']} of {counts['total']} addresses are allocated"
    remedy = "add ranges to the pool, or add a second pool to the annotation of its applications"
    if summary["retiring"]:
        yield _alarm(
            severity="info",
            code="Retiring",
            kind="pool",
            name=name,
            message=f"the pool is being deleted; {usage}",
            remedy="nothing to do: the pool is deleted when its last address is released",
        )
    # An ADD gets an address in cool-down (resting) if no other address is free.
    elif counts["total"] and not counts["free"] + counts["resting"]:
        yield _alarm(
            severity="critical",
            code="PoolFull",
            kind="pool",
            name=name,
            message=usage,
            remedy=remedy,
        )
    elif summary["utilisation"] >= NEARLY_FULL:
        yield _alarm(
            severity="warning",
            code="PoolNearlyFull",
            kind="pool",
            name=name,
            message=usage,
            remedy=remedy,
        )
    elif "expected" in summary["forecast"]:
        expected = summary["forecast"]["expected"]
        expected_ms = int(datetime.fromisoformat(expected).timestamp() * 1000)
        if expected_ms - now_ms < SOON_S * 1000:
            message = f"the pool is expected to be full at {orbctl_time_text(expected_ms)}; {usage}"
            yield _alarm(
                severity="warning",
                code="PoolFullSoon",
                kind="pool",
                name=name,
                message=message,
                remedy=remedy,
            )


def _present_alarms(present: Present) -> Iterator[Document]:
    for alarm in present.store_alarms:
        yield _alarm(
            severity="critical",
            code="StoreAlarm",
            kind="store",
            name=alarm,
            message=f"etcd has raised the alarm {alarm}: no address can be claimed or released",
            remedy="see docs/how-to/recover-a-full-etcd.md",
        )
    if not present.leader:
        yield _alarm(
            severity="warning",
            code="NoLeader",
            kind="controller",
            name="",
            message="no leader elected: no address is reclaimed, and reports are not updated",
            remedy="start a controller, or wait until the lease of the last leader expires",
        )
    if present.paused_executions:
        yield _alarm(
            severity="warning",
            code="ExecutionsPaused",
            kind="workflow",
            name="",
            message="1 workflow execution is paused"
            if present.paused_executions == 1
            else f"{present.paused_executions} workflow executions are paused",
            remedy="see docs/how-to/handle-a-paused-workflow.md",
        )


def _alarm(severity: str, code: str, kind: str, name: str, message: str, remedy: str) -> Document:
    return {
        "severity": severity,
        "code": code,
        "kind": kind,
        "name": name,
        "message": message,
        "remedy": remedy,
    }
