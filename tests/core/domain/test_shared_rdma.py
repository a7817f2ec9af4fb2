"""A rule for shared RDMA chooses the devices that match all of its selectors."""

from __future__ import annotations

import pytest

from core.domain.shared_rdma import HostRdmaDevice, RdmaSelectors, SharedRdmaRule, chosen_devices

DEVICES = (
    HostRdmaDevice("mlx5_0", "15b3", "1017", "mlx5_core", ("ens1f0",), "ether"),
    HostRdmaDevice("mlx5_1", "15b3", "101d", "mlx5_core", ("ib0",), "infiniband"),
    HostRdmaDevice("irdma0", "8086", "1592", "irdma", ("ens2f0",), "ether"),
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
def test_a_device_must_match_every_selector_by_any_of_its_values(
    selectors: RdmaSelectors, names: str
) -> None:
    rule = SharedRdmaRule("spidernet.io/gpu1", 100, selectors)

    assert " ".join(device.name for device in chosen_devices(rule, DEVICES)) == names
