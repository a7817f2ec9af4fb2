"""The address grid of a pool: a cell for each address or range. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from core.audit.holding_table import HoldingRow
from core.domain.addresses.ip_address import Family, format_address, parse_address, require_address
from core.domain.model import Pool
from core.errors import BadInput
from ops.console.address_states import COUNTED_STATES, PoolStates
from ops.console.json_values import Document, clamped, instant_at, instant_document, time_text
from ops.console.pool_answers import PoolsAt

GRID_ADDRESSES_MAX: Final = 4_096
"""A larger grid has cells of ranges, not of addresses."""

CELLS_DEFAULT: Final = 1_024


def grid(pools: PoolsAt, name: str, first: str, last: str, cells: int) -> Document:
    """``Grid`` of console-api.yaml. Raises NotFound, BadInput."""
    pool = pools.pool(name)
    states = pools.states(pool)
    begin, end = states.span
    if end < begin and bool(first) != bool(last):
        one_bound, other_bound = ("first", "last") if first else ("last", "first")
        raise BadInput(
            f"IPPool {name} has no addresses, so its grid has no {other_bound} address",
            subject=other_bound,
            remedy=f"pass the parameter {other_bound} too, or leave out the parameter {one_bound}",
        )
    begin = _bound(first, pool, "first") if first else begin
    end = _bound(last, pool, "last") if last else end
    if end < begin and (first or last):
        raise BadInput(
            f"the first address {format_address(pool.family, begin)} is after the last address"
            f" {format_address(pool.family, end)}",
            subject="first",
            remedy="exchange the two addresses, or leave one out",
        )
    size = max(0, end - begin + 1)
    answer = {
        "at": instant_document(pools.instant),
        "pool": name,
        "family": pool.family,
        "first": format_address(pool.family, begin) if size else "",
        "last": format_address(pool.family, end) if size else "",
        "size": clamped(size),
    }
    if size <= GRID_ADDRESSES_MAX:
        return answer | _address_cells(pools, states, begin, end)
    return answer | {"mode": "ranges", "cells": list(_range_cells(states, begin, end, cells))}


def mac_text(mac: int) -> str:
    """A 48-bit MAC address; "" for 0."""
    return mac.to_bytes(6, "big").hex(":") if mac else ""


def _bound(text: str, pool: Pool, subject: str) -> int:
    address = require_address(text, subject)
    if address.family != pool.family:
        raise BadInput(
            f"{text} is an IPv{address.family} address, but pool {pool.name} has only IPv"
            f"{pool.family} addresses",
            subject=subject,
            remedy=f"use an IPv{pool.family} address, or leave out the parameter {subject}",
        )
    return address.value


def _address_cells(pools: PoolsAt, states: PoolStates, begin: int, end: int) -> Document:
    instant, pool = pools.instant, states.pool
    table = instant.log.table(pool.name)
    family = pool.family
    holders = sorted(
        (
            table.holding(row)
            for row in table.rows_at(instant.position)
            if begin <= table.value(row) <= end
        ),
        key=lambda holding: holding.value,
    )
    # ``cool_downs`` also has addresses that are in another state, such as reserved.
    resting = [
        {
            "offset": value - begin,
            "address": format_address(family, value),
            **_pod(table.holder(cool_down.row).pod),
            "until": time_text(cool_down.until_ms),
        }
        for value, cool_down in sorted(states.cool_downs.items())
        if begin <= value <= end and value in states.states["resting"]
    ]
    return {
        "mode": "addresses",
        "states": _runs(states, begin, end),
        "holders": [_holder(pools, holding, begin, family) for holding in holders],
        "resting": resting,
        "quarantined": list(_quarantined(pools, states, begin, end)),
    }


def _pod(name: str) -> Document:
    namespace, _, pod = name.partition("/")
    return {"namespace": namespace, "pod": pod}


def _holder(pools: PoolsAt, holding: HoldingRow, begin: int, family: Family) -> Document:
    holder, clock = holding.holder, pools.instant.log.clock
    return {
        "offset": holding.value - begin,
        "address": format_address(family, holding.value),
        **_pod(holder.pod),
        "node": holder.node,
        "interface": holder.interface,
        "mac": mac_text(holder.mac),
        "since": instant_at(holder.revision, clock.time_of(holder.revision)),
    }


def _quarantined(pools: PoolsAt, states: PoolStates, begin: int, end: int) -> Iterator[Document]:
    for quarantine in pools.configuration.quarantine.values():
        value = parse_address(quarantine.address).value
        if quarantine.family == states.pool.family and begin <= value <= end:
            yield {
                "offset": value - begin,
                "address": quarantine.address,
                "reason": quarantine.reason,
                "evidence": quarantine.evidence,
            }


def _runs(states: PoolStates, begin: int, end: int) -> list[list[Any]]:
    """[STATE, NUMBER OF ADDRESSES] of each run of equal states, by ascending address."""
    intervals = sorted(
        (max(first, begin), min(last, end), state)
        for state in COUNTED_STATES
        for first, last in states.states[state]
        if first <= end and last >= begin
    )
    runs: list[list[Any]] = []
    next_value = begin
    for first, last, state in intervals:
        if first > next_value:
            runs.append(["outside", first - next_value])
        if runs and runs[-1][0] == state:
            runs[-1][1] += last - first + 1
        else:
            runs.append([state, last - first + 1])
        next_value = last + 1
    if next_value <= end:
        runs.append(["outside", end + 1 - next_value])
    return runs


def _range_cells(states: PoolStates, begin: int, end: int, cells: int) -> Iterator[Document]:
    """At most ``cells`` aligned ranges of one size, a power of two."""
    bits = 0  # the size of a range is 2**bits
    while (end >> bits) - (begin >> bits) + 1 > cells:
        bits += 1
    family = states.pool.family
    for index in range(begin >> bits, (end >> bits) + 1):
        first, last = max(index << bits, begin), min((index + 1 << bits) - 1, end)
        counts: dict[str, int] = {}
        for state in COUNTED_STATES:
            addresses = states.states[state]
            size = addresses.rank(last + 1) - addresses.rank(first)
            if size:
                counts[state] = clamped(size)
        outside = last - first + 1 - sum(counts.values())
        if outside > 0:
            counts["outside"] = clamped(outside)
        yield {
            "first": format_address(family, first),
            "last": format_address(family, last),
            "size": clamped(last - first + 1),
            "counts": counts,
        }
