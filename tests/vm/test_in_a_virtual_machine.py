"""SR-IOV and RDMA, which no namespace can show: the scenarios of ``inside``, in one boot."""

from __future__ import annotations

import pytest

from tests.support.parts import VIRTUAL_MACHINE, needs
from tests.support.vm import Finding, VirtualMachine, run_inside
from tests.vm.inside import SCENARIOS

pytestmark = [pytest.mark.vm, pytest.mark.slow, pytest.mark.timeout(900)]


class Found:
    """What the machine has said."""

    def __init__(self, findings: list[Finding], console: str) -> None:
        self.faults = {one.name: one.fault for one in findings}
        self.console = console


@pytest.fixture(scope="module")
def found() -> Found:
    missing = VirtualMachine.why_not()
    if missing:
        pytest.skip(needs(VIRTUAL_MACHINE, missing))
    return Found(*run_inside("tests.vm.inside"))


@pytest.mark.parametrize("name", [scenario.__name__ for scenario in SCENARIOS])
def test_a_scenario_ends_as_it_should(found: Found, name: str) -> None:
    assert name in found.faults, f"the machine said nothing of it; its console:\n{found.console}"
    assert not found.faults[name], found.faults[name]
