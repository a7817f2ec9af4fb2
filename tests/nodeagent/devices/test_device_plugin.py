"""A device plugin registers, lists, allocates and withdraws resources over a kubelet's sockets.

Kubelet sees each slot as one device; each slot serves one Pod.
"""

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
from core.domain.patterns.labels import LabelSelector
from core.domain.slots import DeviceRules, HostNic, NicRule, SubEniRule
from core.errors import NetlinkLost
from nodeagent.devices.device_advertiser import DeviceAdvertiser
from nodeagent.devices.device_plugin import PATH_BYTES_MAX, socket_name
from nodeagent.devices.slot_offers import NodeView, SlotSource
from tests.nodeagent.devices.fake_kubelet import Kubelet

ETH1 = "spidernet.io/eth1-nic"
SUB_ENI = "spidernet.io/sub-eni"
SLOTS_FAULT_KEY = "the slots of this node"
"""The key of the fault if the slots cannot be read."""

RULES = DeviceRules(sub_eni=(SubEniRule(slots=2),), nics=(NicRule(slots=3, include=("eth*",)),))
ROUND_S = 0.02


class ScriptedNics:
    """The labels and NICs of a node; tests change them."""

    def __init__(self) -> None:
        self.labels: dict[str, str] | None = {}
        self.links = ["eth1"]
        self.cannot_be_read = False

    def nics(self) -> list[HostNic]:
        if self.cannot_be_read:
            raise NetlinkLost("answers were lost")
        return [HostNic(name, has_device=False) for name in self.links]


@pytest.fixture
def directory() -> Iterator[Path]:
    """The path is short, because Linux limits the length of socket paths."""
    path = Path(tempfile.mkdtemp(prefix="ow-"))
    yield path / "p"
    shutil.rmtree(path)


@pytest.fixture
async def kubelet(directory: Path) -> AsyncIterator[Kubelet]:
    running_kubelet = Kubelet(directory)
    await running_kubelet.start()
    yield running_kubelet
    await running_kubelet.stop()


@pytest.fixture
def nics() -> ScriptedNics:
    return ScriptedNics()


@asynccontextmanager
async def running_advertiser(
    directory: Path, nics: ScriptedNics, rules: DeviceRules = RULES
) -> AsyncIterator[DeviceAdvertiser]:
    source = SlotSource(rules, NodeView(lambda: nics.labels, nics.nics))
    advertiser = DeviceAdvertiser([source], directory, ROUND_S)
    task = asyncio.ensure_future(advertiser.run())
    try:
        yield advertiser
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await advertiser.close()


async def test_each_resource_is_registered_once_and_lists_its_slots(
    kubelet: Kubelet, nics: ScriptedNics
) -> None:
    async with running_advertiser(kubelet.directory, nics) as advertiser:
        await kubelet.until(lambda: len(kubelet.devices) == 2)

        assert kubelet.devices == {
            ETH1: ["eth1-nic-0", "eth1-nic-1", "eth1-nic-2"],
            SUB_ENI: ["sub-eni-0", "sub-eni-1"],
        }
        await wait_for_two_more_rounds(advertiser)
        assert sorted(kubelet.registered_resources) == [ETH1, SUB_ENI]
        assert await kubelet.options(ETH1) == b"", "the plugin sets no option"
        names = {path.name for path in kubelet.directory.iterdir()}
        sockets = {"spiderpool-spidernet.io_eth1-nic.sock", "spiderpool-spidernet.io_sub-eni.sock"}
        assert names == {"kubelet.sock", *sockets}
        modes = {stat.S_IMODE((kubelet.directory / name).stat().st_mode) for name in sockets}
        assert modes == {0o600}


async def test_only_offered_slots_are_allocated(kubelet: Kubelet, nics: ScriptedNics) -> None:
    async with running_advertiser(kubelet.directory, nics) as advertiser:
        await kubelet.until(lambda: SUB_ENI in kubelet.devices)

        containers = (["sub-eni-0"], ["sub-eni-1"])
        assert await kubelet.allocate(SUB_ENI, *containers) == len(containers)
        for unknown_id in ("sub-eni-2", "sub-eni--1", "sub-eni-00", "eth1-nic-0", "sub-eni", ""):
            with pytest.raises(grpc.aio.AioRpcError) as error:
                await kubelet.allocate(SUB_ENI, ["sub-eni-0", unknown_id])
            assert error.value.code() == grpc.StatusCode.NOT_FOUND
            assert repr(unknown_id) in str(error.value.details())
        assert (advertiser.counts.allocations, advertiser.counts.refusals) == (1, 6)


async def test_resources_are_registered_again_after_a_restart_of_kubelet(
    kubelet: Kubelet, nics: ScriptedNics
) -> None:
    async with running_advertiser(kubelet.directory, nics) as advertiser:
        for restarts in range(1, 4):
            await kubelet.until(lambda: len(kubelet.devices) == 2)
            await kubelet.stop()
            await kubelet.until(lambda: advertiser.faults)
            await kubelet.start()
            await kubelet.until(lambda: len(kubelet.devices) == 2)
            assert advertiser.counts.registrations >= 2 * (restarts + 1)
        await kubelet.until(lambda: not advertiser.faults)


async def test_a_resource_is_registered_again_after_its_socket_is_removed(
    kubelet: Kubelet, nics: ScriptedNics
) -> None:
    async with running_advertiser(kubelet.directory, nics):
        await kubelet.until(lambda: len(kubelet.devices) == 2)
        kubelet.registered_resources.clear()
        kubelet.devices.clear()

        (kubelet.directory / "spiderpool-spidernet.io_eth1-nic.sock").unlink()

        await kubelet.until(lambda: ETH1 in kubelet.devices)
        assert set(kubelet.registered_resources) == {ETH1}
        assert await kubelet.allocate(ETH1, ["eth1-nic-2"]) == 1


async def test_a_resource_is_registered_again_after_kubelet_closes_its_stream(
    kubelet: Kubelet, nics: ScriptedNics
) -> None:
    async with running_advertiser(kubelet.directory, nics):
        await kubelet.until(lambda: len(kubelet.devices) == 2)
        kubelet.registered_resources.clear()

        await kubelet.close_stream(SUB_ENI)

        await kubelet.until(lambda: kubelet.registered_resources)
        assert set(kubelet.registered_resources) == {SUB_ENI}


async def test_an_agent_that_starts_before_kubelet_waits_for_kubelet(
    kubelet: Kubelet, nics: ScriptedNics
) -> None:
    await kubelet.stop()
    shutil.rmtree(kubelet.directory)
    async with running_advertiser(kubelet.directory, nics) as advertiser:
        await kubelet.until(lambda: "no directory" in advertiser.faults.get(ETH1, ""))
        kubelet.directory.mkdir()
        await kubelet.until(lambda: "kubelet.sock" in advertiser.faults.get(ETH1, ""))

        await kubelet.start()

        await kubelet.until(lambda: len(kubelet.devices) == 2)
        await kubelet.until(lambda: not advertiser.faults)
        assert sorted(kubelet.registered_resources) == [ETH1, SUB_ENI]


async def test_a_refused_registration_is_logged_once_and_tried_again(
    kubelet: Kubelet, nics: ScriptedNics, caplog: pytest.LogCaptureFixture
) -> None:
    kubelet.refusal = "no such version"
    async with running_advertiser(kubelet.directory, nics) as advertiser:
        await kubelet.until(lambda: "no such version" in advertiser.faults.get(SUB_ENI, ""))
        await wait_for_two_more_rounds(advertiser)
        messages = [
            message
            for message in caplog.messages
            if "no such version" in message and SUB_ENI in message
        ]
        assert len(messages) == 1, "logged once"

        kubelet.refusal = ""

        await kubelet.until(lambda: SUB_ENI in kubelet.devices)


async def test_a_new_nic_is_offered_and_a_removed_nic_is_withdrawn(
    kubelet: Kubelet, nics: ScriptedNics
) -> None:
    async with running_advertiser(kubelet.directory, nics):
        await kubelet.until(lambda: ETH1 in kubelet.devices)

        nics.links = ["eth2"]

        await kubelet.until(lambda: "spidernet.io/eth2-nic" in kubelet.devices)
        await kubelet.until(lambda: kubelet.list_lengths[ETH1] == [3, 0])
        socket = kubelet.directory / "spiderpool-spidernet.io_eth1-nic.sock"
        await kubelet.until(lambda: not socket.exists())
        assert kubelet.list_lengths[SUB_ENI] == [2], "no new list"


async def test_a_changed_number_of_slots_is_sent_on_the_open_stream(
    kubelet: Kubelet, nics: ScriptedNics
) -> None:
    large = SubEniRule(slots=4, nodes=LabelSelector({"size": "large"}))
    rules = DeviceRules(sub_eni=(large, SubEniRule(slots=1)))
    async with running_advertiser(kubelet.directory, nics, rules):
        await kubelet.until(lambda: kubelet.devices.get(SUB_ENI) == ["sub-eni-0"])

        nics.labels = {"size": "large"}

        await kubelet.until(lambda: len(kubelet.devices[SUB_ENI]) == 4)
        assert kubelet.registered_resources == [SUB_ENI]
        assert kubelet.list_lengths[SUB_ENI] == [1, 4]


async def test_slots_stay_offered_while_labels_or_nics_are_unknown(
    kubelet: Kubelet, nics: ScriptedNics
) -> None:
    rules = RULES._replace(nodes=LabelSelector({"fabric": "yes"}))
    nics.labels = None
    async with running_advertiser(kubelet.directory, nics, rules) as advertiser:
        await kubelet.until(lambda: "labels" in advertiser.faults.get(SLOTS_FAULT_KEY, ""))
        assert kubelet.registered_resources == []
        nics.labels = {"fabric": "yes"}
        await kubelet.until(lambda: len(kubelet.devices) == 2)

        nics.labels, nics.cannot_be_read = None, True

        await kubelet.until(lambda: "lost" in advertiser.faults.get(SLOTS_FAULT_KEY, ""))
        await wait_for_two_more_rounds(advertiser)
        assert sorted(map(len, kubelet.devices.values())) == [2, 3]
        nics.labels, nics.cannot_be_read = {}, False
        await kubelet.until(lambda: not any(kubelet.devices.values()))


async def test_an_advertiser_removes_only_its_own_sockets_when_it_ends(
    kubelet: Kubelet, nics: ScriptedNics
) -> None:
    path = kubelet.directory / "spiderpool-spidernet.io_sub-eni.sock"
    async with running_advertiser(kubelet.directory, nics):
        await kubelet.until(lambda: len(kubelet.devices) == 2)
        async with running_advertiser(kubelet.directory, ScriptedNics()):
            await kubelet.until(lambda: len(kubelet.registered_resources) >= 4)
        await kubelet.until(lambda: len(kubelet.devices) == 2 and path.exists())
    assert {path.name for path in kubelet.directory.iterdir()} == {"kubelet.sock"}
    assert kubelet.list_lengths[SUB_ENI][-1] == 2, "no empty list"


async def test_a_directory_path_that_is_too_long_for_sockets_is_a_fault(
    directory: Path, nics: ScriptedNics
) -> None:
    long_directory = directory / ("d" * PATH_BYTES_MAX)
    long_directory.mkdir(parents=True)
    kubelet = Kubelet(directory)
    async with running_advertiser(long_directory, nics) as advertiser:
        faults = await kubelet.until(lambda: advertiser.faults.get(SUB_ENI))

    assert faults is not None
    assert str(PATH_BYTES_MAX) in faults


async def test_the_advertiser_ends_although_a_source_swallows_the_cancellation(
    directory: Path,
) -> None:
    class SwallowingSource(NamedTuple):
        name: str
        reading: asyncio.Event

        async def read(self) -> dict[str, Offer]:
            self.reading.set()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.Event().wait()
            return {}

    source = SwallowingSource("source", asyncio.Event())
    task = asyncio.ensure_future(DeviceAdvertiser([source], directory).run())
    await source.reading.wait()
    source.reading.clear()

    task.cancel()

    await asyncio.wait([task], timeout=60)
    assert task.cancelled()
    assert not source.reading.is_set(), "no further round has begun"


def test_socket_names_are_unique_and_short_enough() -> None:
    names = ["spidernet.io/gpu1-vf", "spidernet.io/gpu1_vf", "spidernet.io/gpu1.vf"]
    names += [f"spidernet.io/{'n' * 60}{end}" for end in "ab"]

    sockets = {socket_name(name) for name in names}

    assert len(sockets) == len(names)
    directory = "/var/lib/kubelet/device-plugins"
    # A socket is first created under a temporary name, which ends with the id of the process.
    assert all(len(f"{directory}/.{name}.4194304") <= PATH_BYTES_MAX for name in sockets)


async def wait_for_two_more_rounds(advertiser: DeviceAdvertiser) -> None:
    for _ in range(2):
        rounds_before = advertiser.rounds
        async with asyncio.timeout(60):
            while advertiser.rounds == rounds_before:
                await asyncio.sleep(ROUND_S)
