"""The plan of a run: the faults, drawn at random from the seed.

Equal options give equal plans. Two runs of one plan differ, because processes are not
deterministic.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

FAULT_EVERY_S: Final = 2.0
"""Mean time between the starts of two faults."""

GARBAGE_KEYS: Final = 3
"""Number of keys to which one fault writes garbage."""

QUIET_START_S: Final = 3.0
QUIET_END_S: Final = 3.0
"""No fault begins in the first ``QUIET_START_S`` and the last ``QUIET_END_S`` of a run."""

POOL_CHANGES: Final = (
    *("create", "create", "shrink", "grow", "disable"),
    *("enable", "delete", "reserve", "free"),
    *("retire", "quarantine", "lift", "archive"),
)
"""The change "create" is twice as likely as each other change."""

POOLS_CHANGING: Final = 4
"""Number of pools that faults of the kind "pool" change."""

AGENT: Final = "agent"
CONTROLLER: Final = "controller"
ETCD: Final = "etcd"


class Options(NamedTuple):
    minutes: float = 10.0
    seed: int = 1
    agents: int = 3
    controllers: int = 2
    members: int = 1
    callers: int = 6
    """Concurrent callers of each agent."""

    @property
    def seconds(self) -> float:
        return self.minutes * 60


class Fault(NamedTuple):
    """One fault. ``target``: the index of a process or pool.

    The function that makes the fault describes ``size`` and ``detail``.
    """

    at_s: float
    kind: str
    target: int = 0
    duration_s: float = 0.0
    size: float = 0.0
    detail: str = ""


Maker = Callable[[random.Random, Options], Fault]
"""Makes a fault without its time, which ``_faults`` sets."""


def draw_plan(options: Options, garbage: tuple[str, ...], *, clocks: bool) -> list[Fault]:
    """The faults of a run, by time. ``garbage`` has kinds; ``clocks`` permits clock jumps."""
    rng = random.Random(options.seed)
    makers = _makers(garbage, clocks=clocks)
    weights = [weight for weight, _ in makers]
    return list(_faults(rng, options, [make for _, make in makers], weights))


def _faults(
    rng: random.Random, options: Options, makers: list[Maker], weights: list[int]
) -> Iterator[Fault]:
    at_s = QUIET_START_S
    while at_s < options.seconds - QUIET_END_S:
        (make,) = rng.choices(makers, weights)
        yield make(rng, options)._replace(at_s=round(at_s, 2))
        at_s += rng.uniform(0.1, 1.9) * FAULT_EVERY_S


def _makers(garbage: tuple[str, ...], *, clocks: bool) -> list[tuple[int, Maker]]:
    """Pairs of weight and maker."""
    makers = [
        (8, _of_process(f"kill-{AGENT}", AGENT, 0.0, 3.0)),
        (6, _of_process(f"pause-{AGENT}", AGENT, 0.5, 20.0)),
        (4, _of_process(f"kill-{CONTROLLER}", CONTROLLER, 0.0, 3.0)),
        (4, _of_process(f"pause-{CONTROLLER}", CONTROLLER, 0.5, 20.0)),
        (4, _of_process(f"kill-{ETCD}", ETCD, 0.2, 6.0)),
        (3, _of_process(f"pause-{ETCD}", ETCD, 0.5, 10.0)),
        (8, _of_link("delay", 1.0, 8.0)),
        (6, _of_link("stall", 0.5, 15.0)),
        (10, _of_link("cut", 0.0, 0.0)),
        (8, _of_link("cut-in-message", 0.0, 0.0)),
        (6, _of_link("half-open", 2.0, 15.0)),
        (4, _of_link("refuse", 0.5, 8.0)),
        (16, _garbage(garbage)),
        (18, _pool_change),
    ]
    return [*makers, (6, _clock_jump)] if clocks else makers


def _count(options: Options, role: str) -> int:
    counts = {AGENT: options.agents, CONTROLLER: options.controllers, ETCD: options.members}
    return counts[role]


def _of_process(kind: str, role: str, least_s: float, most_s: float) -> Maker:
    def make(rng: random.Random, options: Options) -> Fault:
        target = rng.randrange(_count(options, role))
        return Fault(0, kind, target, round(rng.uniform(least_s, most_s), 2))

    return make


def _of_link(kind: str, least_s: float, most_s: float) -> Maker:
    """Make faults of links. ``size``: seconds of a delay, or bytes before a "cut-in-message"."""

    def make(rng: random.Random, options: Options) -> Fault:
        target = rng.randrange(options.agents + options.controllers)
        size = rng.uniform(0.05, 1.5) if kind == "delay" else float(rng.randrange(1, 200))
        return Fault(0, kind, target, round(rng.uniform(least_s, most_s), 2), round(size, 2))

    return make


def _garbage(kinds: tuple[str, ...]) -> Maker:
    """Make faults with garbage. ``detail``: kinds, separated by commas."""

    def make(rng: random.Random, _: Options) -> Fault:
        detail = ",".join(rng.sample(kinds, GARBAGE_KEYS))
        return Fault(0, "garbage", 0, round(rng.uniform(1.0, 10.0), 2), detail=detail)

    return make


def _pool_change(rng: random.Random, _: Options) -> Fault:
    return Fault(0, "pool", rng.randrange(POOLS_CHANGING), detail=rng.choice(POOL_CHANGES))


def _clock_jump(rng: random.Random, options: Options) -> Fault:
    """Make a clock jump. ``size``: the error of the clock in seconds."""
    target = rng.randrange(options.agents + options.controllers)
    size = rng.choice((0.0, 0.7, 30.0, 3_600.0, 86_400.0)) * rng.choice((-1, 1))
    return Fault(0, "clock", target, size=size)
