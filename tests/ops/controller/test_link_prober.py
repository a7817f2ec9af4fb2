"""The controller's prober on a real link: hosts that answer, silent hosts, inconclusive probes."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from ops.controller.link_prober import LinkProber
from tests.support.link import Link
from workflows.jobs.quarantine.prober import ProbeTarget

GATEWAY = "10.6.0.1"


@pytest.fixture
async def prober(link: Link) -> AsyncIterator[LinkProber]:
    here = link.station()
    one = LinkProber("eth0", "c-1", here.netns)
    yield one
    await one.close()


@pytest.mark.parametrize(
    ("gateway", "address"), [(GATEWAY, "10.6.0.12"), ("fd00:6::1", "fd00:6::12")]
)
async def test_a_stranger_answers_and_an_unused_address_is_silent(
    link: Link, prober: LinkProber, gateway: str, address: str
) -> None:
    prefix = 64 if ":" in address else 24
    link.station(f"{gateway}/{prefix}")
    silent = await prober.probe(ProbeTarget(address, gateway))
    stranger = link.station(f"{address}/{prefix}")
    answered = await prober.probe(ProbeTarget(address, gateway))

    assert silent == ("silent", "", f"on eth0 of c-1, where the gateway {gateway} answers")
    assert (answered.verdict, answered.mac) == ("answered", stranger.mac)


async def test_without_an_answer_of_the_gateway_silence_says_nothing(prober: LinkProber) -> None:
    answer = await prober.probe(ProbeTarget("10.6.0.12", GATEWAY))

    assert answer.verdict == "unable"
    assert "check the interface" in answer.text


async def test_without_a_gateway_silence_says_nothing(prober: LinkProber) -> None:
    assert (await prober.probe(ProbeTarget("10.6.0.12"))).verdict == "unable"


@pytest.mark.parametrize("up", [True, False])
async def test_a_link_that_is_down_or_not_there_says_nothing(link: Link, *, up: bool) -> None:
    here = link.station(up=up)
    prober = LinkProber("eth7" if up else "eth0", "c-1", here.netns)
    answer = await prober.probe(ProbeTarget("10.6.0.12", GATEWAY))
    await prober.close()

    assert answer.verdict == "unable"
