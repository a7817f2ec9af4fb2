"""The configuration of shared RDMA devices: a list, or the older form without a list."""

from __future__ import annotations

import json

import pytest

from core.domain.shared_rdma import RdmaSelectors, SharedRdmaRule
from core.domain.slots import SLOTS_MAX
from core.errors import BadInput
from core.settings.shared_rdma import shared_rdma_rules


def rules(**conf: object) -> tuple[SharedRdmaRule, ...]:
    return shared_rdma_rules(json.dumps(conf).encode())


def item(**fields: object) -> dict[str, object]:
    """A valid item of ``configList``."""
    return {"resourceName": "gpu1", "rdmaHcaMax": 100, "selectors": {"ifNames": ["ens1"]}} | fields


def test_each_item_of_a_config_list_is_a_resource() -> None:
    selectors = {
        "vendors": ["0x15B3"],
        "deviceIDs": [1017, "101D"],
        "drivers": ["mlx5_core"],
        "ifNames": ["ens1f0np0"],
        "linkTypes": ["Ether"],
    }
    items = [item(resourcePrefix="example.com", selectors=selectors), item(resourceName="gpu2")]

    assert rules(periodicUpdateInterval=300, configList=items) == (
        SharedRdmaRule(
            "example.com/gpu1",
            slots=100,
            selectors=RdmaSelectors(
                vendors=("15b3",),
                devices=("1017", "101d"),
                drivers=("mlx5_core",),
                links=("ens1f0np0",),
                link_types=("ether",),
            ),
        ),
        SharedRdmaRule("spidernet.io/gpu2", slots=100, selectors=RdmaSelectors(links=("ens1",))),
    )


def test_the_single_resource_of_older_charts_is_read_from_the_top_level() -> None:
    top_level = {"resourcePrefix": "spidernet.io", "resourceName": "hca_shared_devices"}
    top_level |= {"vendors": "15b3"}

    (rule,) = rules(periodicUpdateInterval=300, rdmaHcaMax=500, deviceIDs=1017, **top_level)

    selectors = RdmaSelectors(vendors=("15b3",), devices=("1017",))
    assert rule == SharedRdmaRule("spidernet.io/hca_shared_devices", slots=500, selectors=selectors)
    assert rules(periodicUpdateInterval=300) == rules(configList=[]) == ()


def test_an_item_may_list_interfaces_under_devices() -> None:
    (rule,) = rules(configList=[item(selectors={}, devices=["ib0", "ib1"])])

    assert rule.selectors == RdmaSelectors(links=("ib0", "ib1"))


@pytest.mark.parametrize(
    ("conf", "subject"),
    [
        ({"configList": [item(selectors={})]}, "configList[0].selectors"),
        ({"configList": [item(selectors={"ifName": ["ens1"]})]}, "configList[0].selectors"),
        (
            {"configList": [item(selectors={"linkTypes": ["fc"]})]},
            "configList[0].selectors.linkTypes",
        ),
        ({"configList": [item(resourceName="a b")]}, "configList[0].resourceName"),
        ({"configList": [item(rdmaHcaMax=SLOTS_MAX + 1)]}, "configList[0].rdmaHcaMax"),
        ({"configList": [item(), item()]}, "configList"),
    ],
)
def test_the_error_of_an_invalid_configuration_names_its_field(
    conf: dict[str, object], subject: str
) -> None:
    with pytest.raises(BadInput) as refused:
        rules(**conf)

    assert refused.value.subject == subject
