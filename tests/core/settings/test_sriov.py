"""The limit on the number of nodes that are drained concurrently to change virtual functions."""

from __future__ import annotations

from core.settings.sriov import SriovSettings


def test_the_limit_is_the_setting_and_0_if_drains_are_switched_off() -> None:
    settings = SriovSettings(max_unavailable=3)

    assert settings.drained_nodes_max == 3
    assert settings._replace(drain=False).drained_nodes_max == 0
