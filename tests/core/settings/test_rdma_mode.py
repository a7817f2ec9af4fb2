"""``orbweaver.rdmaMode`` of conf.yml is ``shared`` or ``exclusive``; "" keeps the node's mode."""

from __future__ import annotations

import pytest

from core.errors import BadInput
from core.settings.rdma_mode import rdma_mode


def test_the_two_kernel_modes_and_the_empty_value_are_valid() -> None:
    assert [rdma_mode(mode) for mode in ("", "shared", "exclusive")] == ["", "shared", "exclusive"]


def test_the_error_of_an_unknown_mode_names_the_key() -> None:
    with pytest.raises(BadInput) as refused:
        rdma_mode("Exclusive")

    assert refused.value.subject == "orbweaver.rdmaMode"
