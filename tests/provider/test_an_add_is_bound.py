"""An ADD on a network of the provider: bound before it is answered, or failed and nothing held."""

from __future__ import annotations

import asyncio

import pytest

from core.domain.facts import PodReference
from core.errors import WrongInput
from tests.provider.town import PARENT, Town, eventually
from tests.workflows.external.fake_provider import Fault, mac_of
from workflows.jobs.provider.wire import ALLOCATE, RELEASE

pytestmark = pytest.mark.etcd


def paths(town: Town) -> list[str]:
    return [path for path, _, _ in town.provider.calls]


async def test_the_answer_of_an_add_is_bound_and_its_plugins_are_told_mac_and_vlan(
    town: Town,
) -> None:
    await town.controller()
    (address,) = [one.partition("/")[0] for one in await town.node.add()]
    endpoint = await town.workload_endpoint()

    assert town.provider.bound == {address: "uid-web-0"}
    assert town.provider.calls[0][1]["iaasIPsAllocationRequest"] == [
        {"ipAddress": address, "subnet": "10.6.0.0/16", "parentNicMac": PARENT}
    ]
    (nic,) = endpoint["interfaces"]
    assert (nic["mac"], nic["vlan"]) == (mac_of(address), 100)


async def test_repeated_adds_attach_and_bind_once(town: Town) -> None:
    await town.controller()
    one, other = await asyncio.gather(town.node.add(), town.node.add())

    assert one == other == await town.node.add()
    assert paths(town) == [ALLOCATE]


async def test_each_nic_of_a_pod_is_bound_as_it_comes(town: Town) -> None:
    town.networks.modes["net1"] = "auto"
    await town.controller()
    await town.node.add()
    await town.node.add(CNI_IFNAME="net1")

    endpoint = await town.node.endpoint()
    assert endpoint is not None
    assert [(nic.interface, nic.vlan) for nic in endpoint.nics] == [("eth0", 100), ("net1", 100)]
    assert len(town.provider.bound) == 2


async def test_other_networks_have_nothing_to_do_with_the_provider(town: Town) -> None:
    town.networks.modes["eth0"] = "manual"
    await town.node.add()  # without any controller
    await town.node.delete()

    assert await town.nothing_left()
    assert not town.provider.calls


async def test_a_refusal_is_the_error_of_the_add_and_nothing_is_held(town: Town) -> None:
    await town.controller()
    town.provider.faults.append(Fault.REFUSED)
    error = (await town.node.call("ADD")).error

    assert error["code"] == 11
    assert "the provider did not bind" in error["msg"]
    assert "no VLAN is left" in error["msg"]
    assert "orbctl workflow history external/shop/web-0/uid-web-0" in error["details"]
    await eventually(town.nothing_left)
    assert await town.node.add()  # the runtime's next try


async def test_a_provider_that_is_away_fails_the_add_in_time_and_is_asked_to_forget(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workflows.jobs.provider.binding.AFTERMATH_S", 0.5)
    town.waits(54)  # so that 48 s are left for a second or so only
    town.provider.away = Fault.REQUEST_LOST
    await town.controller()
    error = (await town.node.call("ADD")).error

    assert "the provider did not bind" in error["msg"]
    again = (await town.node.call("ADD")).error
    assert "are being given back to the network provider first" in again["msg"]
    town.provider.away = None
    await eventually(town.nothing_left)
    assert await town.node.add()
    assert paths(town)[-2:] == [RELEASE, ALLOCATE]


async def test_a_controller_that_dies_over_a_bind_is_followed_by_another(town: Town) -> None:
    town.provider.faults.append(Fault.SILENT)
    await town.controller()
    adding = asyncio.create_task(town.node.add())

    async def asked() -> bool:
        return ALLOCATE in paths(town)

    await eventually(asked)
    await town.bury()
    await town.controller("controller-1")
    (address,) = await adding

    assert town.provider.bound == {address.partition("/")[0]: "uid-web-0"}
    assert paths(town) == [ALLOCATE, ALLOCATE]


async def test_without_a_controller_an_add_ends_by_itself_and_is_given_back_later(
    town: Town,
) -> None:
    town.waits(0.2)
    error = (await town.node.call("ADD")).error

    assert "the network provider did not bind it within 0.2 s" in error["msg"]
    assert "orbctl status" in error["details"]
    await town.controller()
    await eventually(town.nothing_left)


async def test_a_late_add_of_an_older_pod_gives_back_nothing_that_the_newer_one_has_bound(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    await town.controller()
    await town.node.add()
    bound = dict(town.provider.bound)

    async def refuse(_: PodReference) -> None:
        raise WrongInput("Pod shop/web-0, UID older, does not exist any more")

    allocator = getattr(town.node.agent.parts.addresses._allocate, "__self__", None)
    monkeypatch.setattr(allocator, "_confirm", refuse)
    args = "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-0;K8S_POD_UID=older"
    late = await town.node.call("ADD", CNI_CONTAINERID="c-older", CNI_ARGS=args)

    assert late.error["code"] == 112
    assert town.provider.bound == bound
    assert set(await town.node.claims()) == set(bound)
