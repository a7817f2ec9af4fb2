"""How many nodes are drained for their virtual functions at a time."""

from __future__ import annotations

from core.settings.sriov import SriovSettings


def test_so_many_nodes_are_drained_as_the_setting_says_and_none_where_drains_are_off() -> None:
    settings = SriovSettings(max_unavailable=3)

    assert settings.drained_nodes_max == 3
    assert settings._replace(drain=False).drained_nodes_max == 0
