"""``orbweaver.rdmaMode`` of conf.yml: one of two modes, or the node's own."""

from __future__ import annotations

import pytest

from core.errors import BadInput
from core.settings.rdma_mode import rdma_mode


def test_the_two_modes_of_the_kernel_and_none_are_taken() -> None:
    assert [rdma_mode(mode) for mode in ("", "shared", "exclusive")] == ["", "shared", "exclusive"]


def test_another_mode_is_refused_with_its_key() -> None:
    with pytest.raises(BadInput) as refused:
        rdma_mode("Exclusive")

    assert refused.value.subject == "orbweaver.rdmaMode"
