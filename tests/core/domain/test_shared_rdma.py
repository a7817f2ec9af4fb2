"""A rule for shared RDMA chooses the devices that match all of its selectors."""

from __future__ import annotations

import pytest

from core.domain.shared_rdma import HostRdmaDevice, RdmaSelectors, SharedRdmaRule, chosen_devices

DEVICES = (
    HostRdmaDevice(
        "mlx5_0",
        vendor="15b3",
        device="1017",
        driver="mlx5_core",
        links=("ens1f0",),
        link_type="ether",
    ),
    HostRdmaDevice(
        "mlx5_1",
        vendor="15b3",
        device="101d",
        driver="mlx5_core",
        links=("ib0",),
        link_type="infiniband",
    ),
    HostRdmaDevice(
        "irdma0", vendor="8086", device="1592", driver="irdma", links=("ens2f0",), link_type="ether"
    ),
    HostRdmaDevice("rxe0", links=("eth1",), link_type="ether"),
)


@pytest.mark.parametrize(
    ("selectors", "names"),
    [
        (RdmaSelectors(vendors=("15b3",)), "mlx5_0 mlx5_1"),
        (RdmaSelectors(vendors=("15b3", "8086"), link_types=("ether",)), "mlx5_0 irdma0"),
        (RdmaSelectors(devices=("101d", "1592")), "mlx5_1 irdma0"),
        (RdmaSelectors(drivers=("irdma",)), "irdma0"),
        (RdmaSelectors(links=("ib0", "eth1", "eth9")), "mlx5_1 rxe0"),
        (RdmaSelectors(links=("ib0",), vendors=("8086",)), ""),
    ],
)
def test_a_device_must_match_one_value_of_every_selector(
    selectors: RdmaSelectors, names: str
) -> None:
    rule = SharedRdmaRule("spidernet.io/gpu1", slots=100, selectors=selectors)

    assert " ".join(device.name for device in chosen_devices(rule, DEVICES)) == names
