"""The verdicts of the controller's prober on a real link."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from ops.controller.link_prober import LinkProber
from tests.support.link import Link
from workflows.jobs.quarantine.prober import ProbeTarget

GATEWAY = "10.6.0.1"


@pytest.fixture
async def prober(link: Link) -> AsyncIterator[LinkProber]:
    station = link.station()
    prober = LinkProber("eth0", "c-1", station.netns)
    yield prober
    await prober.close()


@pytest.mark.parametrize(
    ("gateway", "address"), [(GATEWAY, "10.6.0.12"), ("fd00:6::1", "fd00:6::12")]
)
async def test_a_used_address_answers_and_an_unused_address_is_silent(
    link: Link, prober: LinkProber, gateway: str, address: str
) -> None:
    prefix = 64 if ":" in address else 24
    link.station(f"{gateway}/{prefix}")
    unused_answer = await prober.probe(ProbeTarget(address, gateway))
    other_host = link.station(f"{address}/{prefix}")
    used_answer = await prober.probe(ProbeTarget(address, gateway))

    assert unused_answer == ("silent", "", f"on eth0 of c-1, where the gateway {gateway} answers")
    assert (used_answer.verdict, used_answer.mac) == ("answered", other_host.mac)


async def test_the_verdict_is_unable_if_the_gateway_does_not_answer(
    prober: LinkProber,
) -> None:
    answer = await prober.probe(ProbeTarget("10.6.0.12", GATEWAY))

    assert answer.verdict == "unable"
    assert "check the interface" in answer.text


async def test_the_verdict_is_unable_without_a_gateway(prober: LinkProber) -> None:
    assert (await prober.probe(ProbeTarget("10.6.0.12"))).verdict == "unable"


@pytest.mark.parametrize(
    ("interface", "up"), [("eth7", True), ("eth0", False)], ids=["missing", "inactive"]
)
async def test_the_verdict_is_unable_on_a_missing_or_inactive_link(
    link: Link, interface: str, *, up: bool
) -> None:
    station = link.station(up=up)  # has only eth0
    prober = LinkProber(interface, "c-1", station.netns)
    answer = await prober.probe(ProbeTarget("10.6.0.12", GATEWAY))
    await prober.close()

    assert answer.verdict == "unable"
