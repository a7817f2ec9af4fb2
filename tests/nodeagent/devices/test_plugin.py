"""A plugin and a kubelet over real sockets: registration, lists, allocations, withdrawal."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import stat
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import grpc
import pytest

from core.domain.device_allocation import Offer
from core.domain.devices import DeviceRules, HostNic, NicRule, SubEniRule
from core.domain.patterns.labels import LabelSelector
from core.errors import NetlinkLost
from nodeagent.devices.advertiser import DeviceAdvertiser
from nodeagent.devices.plugin import PATH_BYTES_MAX, socket_name
from nodeagent.devices.slot_offers import NodeView, SlotSource
from tests.nodeagent.devices.fake_kubelet import Kubelet

ETH1 = "spidernet.io/eth1-nic"
SUB_ENI = "spidernet.io/sub-eni"
RULES = DeviceRules(sub_eni=(SubEniRule(slots=2),), nics=(NicRule(slots=3, include=("eth*",)),))
LOOK_S = 0.02


class ScriptedNics:
    """The devices of the offering; tests change them."""

    def __init__(self) -> None:
        self.labels: dict[str, str] | None = {}
        self.links = ["eth1"]
        self.lost = False

    def nics(self) -> list[HostNic]:
        if self.lost:
            raise NetlinkLost("answers were lost")
        return [HostNic(name, has_device=False) for name in self.links]


@pytest.fixture
def directory() -> Iterator[Path]:
    """Paths of sockets are short."""
    path = Path(tempfile.mkdtemp(prefix="ow-"))
    yield path / "p"
    shutil.rmtree(path)


@pytest.fixture
async def kubelet(directory: Path) -> AsyncIterator[Kubelet]:
    found = Kubelet(directory)
    await found.start()
    yield found
    await found.stop()


@pytest.fixture
def nics() -> ScriptedNics:
    return ScriptedNics()


@asynccontextmanager
async def at_work(
    directory: Path, nics: ScriptedNics, rules: DeviceRules = RULES
) -> AsyncIterator[DeviceAdvertiser]:
    """An offering with a short interval."""
    source = SlotSource(rules, NodeView(lambda: nics.labels, nics.nics))
    offering = DeviceAdvertiser([source], directory, LOOK_S)
    task = asyncio.ensure_future(offering.run())
    try:
        yield offering
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await offering.close()


async def test_each_resource_is_registered_once_and_lists_its_slots(
    kubelet: Kubelet, nics: ScriptedNics
) -> None:
    async with at_work(kubelet.directory, nics) as offering:
        await kubelet.until(lambda: len(kubelet.devices) == 2)

        assert kubelet.devices == {
            ETH1: ["eth1-nic-0", "eth1-nic-1", "eth1-nic-2"],
            SUB_ENI: ["sub-eni-0", "sub-eni-1"],
        }
        await rounds(offering)
        assert sorted(kubelet.registered) == [ETH1, SUB_ENI]
        assert await kubelet.options(ETH1) == b""
        names = {one.name for one in kubelet.directory.iterdir()}
        sockets = {"spiderpool-spidernet.io_eth1-nic.sock", "spiderpool-spidernet.io_sub-eni.sock"}
        assert names == {"kubelet.sock", *sockets}
        modes = {stat.S_IMODE((kubelet.directory / one).stat().st_mode) for one in sockets}
        assert modes == {0o600}


async def test_slots_that_are_offered_are_given_and_no_others(
    kubelet: Kubelet, nics: ScriptedNics
) -> None:
    async with at_work(kubelet.directory, nics) as offering:
        await kubelet.until(lambda: SUB_ENI in kubelet.devices)

        assert await kubelet.allocate(SUB_ENI, ["sub-eni-0"], ["sub-eni-1"]) == 2
        for strange in ("sub-eni-2", "sub-eni--1", "sub-eni-00", "eth1-nic-0", "sub-eni", ""):
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await kubelet.allocate(SUB_ENI, ["sub-eni-0", strange])
            assert refused.value.code() == grpc.StatusCode.NOT_FOUND
            assert repr(strange) in str(refused.value.details())
        assert (offering.counts.allocations, offering.counts.refusals) == (1, 6)


async def test_a_kubelet_that_starts_again_is_told_again(
    kubelet: Kubelet, nics: ScriptedNics
) -> None:
    async with at_work(kubelet.directory, nics) as offering:
        for restarts in range(1, 4):
            await kubelet.until(lambda: len(kubelet.devices) == 2)
            await kubelet.stop()
            await kubelet.until(lambda: offering.faults)
            await kubelet.start()
            await kubelet.until(lambda: len(kubelet.devices) == 2)
            assert offering.counts.registrations >= 2 * (restarts + 1)
        await kubelet.until(lambda: not offering.faults)


async def test_a_socket_that_somebody_removes_is_served_and_registered_again(
    kubelet: Kubelet, nics: ScriptedNics
) -> None:
    async with at_work(kubelet.directory, nics):
        await kubelet.until(lambda: len(kubelet.devices) == 2)
        kubelet.registered.clear()
        kubelet.devices.clear()

        (kubelet.directory / "spiderpool-spidernet.io_eth1-nic.sock").unlink()

        await kubelet.until(lambda: ETH1 in kubelet.devices)
        assert set(kubelet.registered) == {ETH1}
        assert await kubelet.allocate(ETH1, ["eth1-nic-2"]) == 1


async def test_a_kubelet_that_hangs_up_and_lives_on_is_told_again(
    kubelet: Kubelet, nics: ScriptedNics
) -> None:
    async with at_work(kubelet.directory, nics):
        await kubelet.until(lambda: len(kubelet.devices) == 2)
        kubelet.registered.clear()

        await kubelet.hang_up(SUB_ENI)

        await kubelet.until(lambda: kubelet.registered)
        assert set(kubelet.registered) == {SUB_ENI}


async def test_an_agent_that_starts_before_kubelet_waits_for_it(
    kubelet: Kubelet, nics: ScriptedNics
) -> None:
    await kubelet.stop()
    shutil.rmtree(kubelet.directory)
    async with at_work(kubelet.directory, nics) as offering:
        await kubelet.until(lambda: "no directory" in offering.faults.get(ETH1, ""))
        kubelet.directory.mkdir()
        await kubelet.until(lambda: "kubelet.sock" in offering.faults.get(ETH1, ""))

        await kubelet.start()

        await kubelet.until(lambda: len(kubelet.devices) == 2)
        await kubelet.until(lambda: not offering.faults)
        assert sorted(kubelet.registered) == [ETH1, SUB_ENI]


async def test_what_kubelet_refuses_is_said_in_its_words_and_tried_again(
    kubelet: Kubelet, nics: ScriptedNics, caplog: pytest.LogCaptureFixture
) -> None:
    kubelet.refusal = "no such version"
    async with at_work(kubelet.directory, nics) as offering:
        await kubelet.until(lambda: "no such version" in offering.faults.get(SUB_ENI, ""))
        await rounds(offering)
        said = [one for one in caplog.messages if "no such version" in one and SUB_ENI in one]
        assert len(said) == 1, "told once"

        kubelet.refusal = ""

        await kubelet.until(lambda: SUB_ENI in kubelet.devices)


async def test_a_nic_that_comes_is_offered_and_one_that_goes_is_withdrawn(
    kubelet: Kubelet, nics: ScriptedNics
) -> None:
    async with at_work(kubelet.directory, nics):
        await kubelet.until(lambda: ETH1 in kubelet.devices)

        nics.links = ["eth2"]

        await kubelet.until(lambda: "spidernet.io/eth2-nic" in kubelet.devices)
        await kubelet.until(lambda: kubelet.told[ETH1] == [3, 0])
        gone = kubelet.directory / "spiderpool-spidernet.io_eth1-nic.sock"
        await kubelet.until(lambda: not gone.exists())
        assert kubelet.told[SUB_ENI] == [2], "the other is not touched"


async def test_another_number_is_told_over_the_stream_that_is_open(
    kubelet: Kubelet, nics: ScriptedNics
) -> None:
    large = SubEniRule(slots=4, nodes=LabelSelector({"size": "large"}))
    rules = DeviceRules(sub_eni=(large, SubEniRule(slots=1)))
    async with at_work(kubelet.directory, nics, rules):
        await kubelet.until(lambda: kubelet.devices.get(SUB_ENI) == ["sub-eni-0"])

        nics.labels = {"size": "large"}

        await kubelet.until(lambda: len(kubelet.devices[SUB_ENI]) == 4)
        assert kubelet.registered == [SUB_ENI]
        assert kubelet.told[SUB_ENI] == [1, 4]


async def test_what_is_not_known_now_withdraws_nothing(
    kubelet: Kubelet, nics: ScriptedNics
) -> None:
    rules = RULES._replace(nodes=LabelSelector({"fabric": "yes"}))
    nics.labels = None
    async with at_work(kubelet.directory, nics, rules) as offering:
        await kubelet.until(lambda: "labels" in offering.faults.get("this node", ""))
        assert kubelet.registered == []
        nics.labels = {"fabric": "yes"}
        await kubelet.until(lambda: len(kubelet.devices) == 2)

        nics.labels, nics.lost = None, True

        await kubelet.until(lambda: "lost" in offering.faults.get("this node", ""))
        await rounds(offering)
        assert sorted(map(len, kubelet.devices.values())) == [2, 3]
        nics.labels, nics.lost = {}, False
        await kubelet.until(lambda: not any(kubelet.devices.values()))


async def test_an_agent_that_ends_takes_only_its_own_sockets_with_it(
    kubelet: Kubelet, nics: ScriptedNics
) -> None:
    path = kubelet.directory / "spiderpool-spidernet.io_sub-eni.sock"
    async with at_work(kubelet.directory, nics):
        await kubelet.until(lambda: len(kubelet.devices) == 2)
        async with at_work(kubelet.directory, ScriptedNics()):
            await kubelet.until(lambda: len(kubelet.registered) >= 4)
        await kubelet.until(lambda: len(kubelet.devices) == 2 and path.exists())
    assert {one.name for one in kubelet.directory.iterdir()} == {"kubelet.sock"}
    assert kubelet.told[SUB_ENI][-1] == 2, "whoever has a slot keeps it"


async def test_a_directory_too_deep_for_a_socket_is_said(
    directory: Path, nics: ScriptedNics
) -> None:
    deep = directory / ("d" * PATH_BYTES_MAX)
    deep.mkdir(parents=True)
    kubelet = Kubelet(directory)
    async with at_work(deep, nics) as offering:
        said = await kubelet.until(lambda: offering.faults.get(SUB_ENI))

    assert said is not None
    assert str(PATH_BYTES_MAX) in said


async def test_a_cancellation_that_a_step_takes_away_ends_the_advertiser_all_the_same(
    directory: Path,
) -> None:
    class Deaf(NamedTuple):
        name: str
        reading: asyncio.Event

        async def read(self) -> dict[str, Offer]:
            self.reading.set()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.Event().wait()
            return {}

    source = Deaf("deaf", asyncio.Event())
    task = asyncio.ensure_future(DeviceAdvertiser([source], directory).run())
    await source.reading.wait()
    source.reading.clear()

    task.cancel()

    await asyncio.wait([task], timeout=60)
    assert task.cancelled()
    assert not source.reading.is_set()


def test_the_sockets_of_two_resources_are_two_and_short_enough() -> None:
    names = ["spidernet.io/gpu1-vf", "spidernet.io/gpu1_vf", "spidernet.io/gpu1.vf"]
    names += [f"spidernet.io/{'n' * 60}{end}" for end in "ab"]

    sockets = {socket_name(name) for name in names}

    assert len(sockets) == len(names)
    directory = "/var/lib/kubelet/device-plugins"
    assert all(len(f"{directory}/.{name}.4194304") <= PATH_BYTES_MAX for name in sockets)


async def rounds(offering: DeviceAdvertiser) -> None:
    """Wait until it has read all devices twice more."""
    for _ in range(2):
        before = offering.rounds
        async with asyncio.timeout(60):
            while offering.rounds == before:
                await asyncio.sleep(LOOK_S)
