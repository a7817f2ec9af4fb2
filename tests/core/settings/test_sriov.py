"""The maximum number of nodes that are drained at a time to change virtual functions."""

from __future__ import annotations

from core.settings.sriov import SriovSettings


def test_the_setting_bounds_drained_nodes_and_without_drains_it_is_0() -> None:
    settings = SriovSettings(max_unavailable=3)

    assert settings.drained_nodes_max == 3
    assert settings._replace(drain=False).drained_nodes_max == 0
