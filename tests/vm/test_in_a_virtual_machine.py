"""SR-IOV and RDMA in a virtual machine: one boot runs all scenarios of ``tests/vm/inside.py``."""

from __future__ import annotations

import pytest

from tests.support.parts import VIRTUAL_MACHINE, needs
from tests.support.vm import Finding, VirtualMachine, run_module_in_vm
from tests.vm.inside import VM_SCENARIOS

pytestmark = [pytest.mark.vm, pytest.mark.slow, pytest.mark.timeout(900)]


class MachineRun:
    """The fault of each scenario ("" for success), and the machine's console."""

    def __init__(self, findings: list[Finding], console: str) -> None:
        self.faults = {finding.name: finding.fault for finding in findings}
        self.console = console


@pytest.fixture(scope="module")
def machine_run() -> MachineRun:
    missing = VirtualMachine.why_not()
    if missing:
        pytest.skip(needs(VIRTUAL_MACHINE, missing))
    return MachineRun(*run_module_in_vm("tests.vm.inside"))


@pytest.mark.parametrize("name", [scenario.__name__ for scenario in VM_SCENARIOS])
def test_a_scenario_succeeds(machine_run: MachineRun, name: str) -> None:
    assert name in machine_run.faults, (
        f"the scenario wrote no finding; the console:\n{machine_run.console}"
    )
    assert not machine_run.faults[name], machine_run.faults[name]
