"""Latencies of ADD and DEL up to p99.9: 1, 8 and 32 callers, in pools of different utilisation.

Each caller deletes a Pod and then adds a new Pod. Released addresses have no cool-down.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import chain
from typing import Any, Final

from bench.figures import Figure, median_figure
from bench.measures.calls import UNLIMITED_ALLOCATIONS, CallFailed
from bench.rig.agent import AgentProcess
from bench.rig.controller import ControllerProcess
from bench.rig.frames import FIRST_NEW_SERIAL, netconf
from bench.rig.lab import Lab
from bench.rig.seed_writer import SeedWriter
from bench.rig.seeding import SeededAddress, all_addresses, exact_pool, seed, wide_pool
from core.domain.model import Pool
from core.eventstore.keys import Keys
from core.eventstore.kv import KeyValueStore

CALLERS: Final = (1, 8, 32)
EXISTING_PODS: Final = 64
"""Pods in each pool that take part in replacements: about as many as a node has."""

WARM_UP_REPLACEMENTS: Final = 4 * EXISTING_PODS
"""After these replacements, the agent itself has added every Pod that it deletes, as on a node."""

SITUATIONS: Final = {
    "empty": "a nearly empty pool",
    "full99": "99 % of 4,096 addresses claimed",
    "last": "all 65,533 addresses claimed: an ADD gets the one just released",
}
"""Pool name -> text about the pool's utilisation."""

VERBS: Final = ("add", "del")
NAMES: Final = tuple(
    f"{verb}_{situation}_{callers}_ms"
    for verb in VERBS
    for situation in SITUATIONS
    for callers in CALLERS
)

_NEARLY_FULL: Final = exact_pool("full99", 4_096, second_octet=65)
_FREE: Final = 4_096 // 100
_FULL: Final = exact_pool("last", 65_533, second_octet=64)
_WIDE: Final = wide_pool("empty")
_SEED: Final = 999


class PodReplacer:
    """Replaces Pods of one agent in any of the three pools."""

    def __init__(self, lab: Lab, agent: AgentProcess) -> None:
        self._lab = lab
        self._socket = str(agent.framed_path)
        self._next = FIRST_NEW_SERIAL
        # ``_fill`` numbers the Pods of the full pool first.
        first_pods = {_FULL.name: 0, _NEARLY_FULL.name: _FULL_COUNT}
        self._existing = {
            pool: list(range(first, first + EXISTING_PODS)) for pool, first in first_pods.items()
        }
        self._existing[_WIDE.name] = self._add_pods(_WIDE.name)

    def run(self, pool: str, callers: int, count: int) -> dict[str, list[float]]:
        """Replace Pods; return the milliseconds of each ADD and DEL. Raises CallFailed."""
        parameters: dict[str, Any] = {"socket": self._socket, "callers": callers, "count": count}
        parameters |= {"first": self._take_numbers(count), "existing": self._existing[pool]}
        report = self._lab.call("replacement", parameters | {"netconf": netconf((pool,)).decode()})
        _check(report["failures"], pool)
        self._existing[pool] = report["existing"]
        return {verb: report[f"{verb}_ms"] for verb in VERBS}

    def _add_pods(self, pool: str) -> list[int]:
        first = self._take_numbers(EXISTING_PODS)
        parameters: dict[str, Any] = {"sockets": [self._socket], "verb": "ADD", "callers": 1}
        parameters |= {"first": first, "count": EXISTING_PODS, "netconf": netconf((pool,)).decode()}
        _check(self._lab.call("framed", parameters)["failures"], pool)
        return list(range(first, first + EXISTING_PODS))

    def _take_numbers(self, count: int) -> int:
        """Reserve numbers for new Pods; return the first number."""
        first, self._next = self._next, self._next + count
        return first


def measure(lab: Lab) -> list[Figure]:
    """Measure add_*_ms and del_*_ms: the figures of ``NAMES``."""
    latencies_ms: dict[str, list[float]] = {name: [] for name in NAMES}
    variables = UNLIMITED_ALLOCATIONS | {"ORBWEAVER_COOL_DOWN_SECONDS": "0"}
    count = lab.scale.replaced // lab.scale.rounds
    with (
        lab.etcd(lab.seed("three pools", _fill)) as etcd,
        ControllerProcess(lab.new_directory("controller"), etcd.endpoints[0]) as controller,
        lab.agent(etcd, variables=variables) as agent,
    ):
        replacer = PodReplacer(lab, agent)
        for pool in SITUATIONS:
            replacer.run(pool, max(CALLERS), WARM_UP_REPLACEMENTS)
        controller.wait_idle()
        for _ in lab.rounds():
            for callers in CALLERS:
                for pool in SITUATIONS:
                    for verb, durations_ms in replacer.run(pool, callers, count).items():
                        latencies_ms[f"{verb}_{pool}_{callers}_ms"] += durations_ms
    return [
        median_figure(name, durations_ms, "ms", note=_note(name))
        for name, durations_ms in latencies_ms.items()
    ]


async def _fill(store: KeyValueStore, keys: Keys) -> None:
    addresses = chain(all_addresses(_FULL), _nearly_all_addresses(_NEARLY_FULL))
    await seed(store, keys, [_FULL, _NEARLY_FULL], addresses)
    await SeedWriter(store, keys, "other").define([_WIDE])


_FULL_COUNT: Final = sum(1 for _ in all_addresses(_FULL))


def _nearly_all_addresses(pool: Pool) -> Iterator[SeededAddress]:
    addresses = list(all_addresses(pool))
    free = set(random.Random(_SEED).sample(range(len(addresses)), _FREE))
    return (seeded for number, seeded in enumerate(addresses) if number not in free)


def _check(failures: list[str], pool: str) -> None:
    if failures:
        raise CallFailed(f"{len(failures)} calls failed in pool {pool}: {failures[0]}")


def _note(name: str) -> str:
    verb, situation, callers, _ = name.split("_")
    return f"{verb.upper()}, callers: {callers}, {SITUATIONS[situation]}"
