"""``orbctl node sriov`` shows the changes that policies need on a node."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from core.domain.sriov.model import PhysicalFunction
from ops.cli.exit_codes import Exit
from ops.cli.global_options import ProcessContext
from ops.cli.main import run

POLICY = """
apiVersion: sriovnetwork.openshift.io/v1
kind: SriovNetworkNodePolicy
metadata: {{name: rail}}
spec: {{resourceName: r, numVfs: 4, nicSelector: {{pfNames: [no-such-nic]}}, {more}}}
"""


def run_node_sriov(tmp_path: Path, text: str, *options: str) -> int:
    file = tmp_path / "policies.yaml"
    file.write_text(text)
    return run(["node", "sriov", "-f", str(file), *options], ProcessContext())


def test_a_policy_for_a_missing_nic_needs_no_changes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_node_sriov(tmp_path, POLICY.format(more="mtu: 9000"), "-o", "json") == Exit.OK
    assert json.loads(capsys.readouterr().out) == {"actions": [], "refusals": [], "drain": []}


def test_the_reason_for_a_refused_policy_is_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_node_sriov(tmp_path, POLICY.format(more="deviceType: uio")) == Exit.REFUSED
    assert capsys.readouterr().out == (
        "policy rail: deviceType: 'uio' is not netdevice or vfio-pci; correct the policy\n"
    )


def test_reading_the_eswitch_mode_of_a_nic_requires_root(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    nics = (PhysicalFunction("ens1f0", "0000:3b:00.0"),)
    monkeypatch.setattr("ops.cli.commands.node.physical_functions", lambda _: nics)
    monkeypatch.setattr("os.geteuid", lambda: 1_000)

    assert run_node_sriov(tmp_path, POLICY.format(more="eSwitchMode: legacy")) == Exit.USAGE
    assert "requires root" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("kind: Pod", [], "no SriovNetworkNodePolicy"),
        (POLICY.format(more="mtu: 9000"), ["--label", "rack"], "rack has no equals sign"),
    ],
)
def test_missing_policies_and_malformed_labels_are_usage_errors(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    text: str,
    options: list[str],
    message: str,
) -> None:
    assert run_node_sriov(tmp_path, text, *options) == Exit.USAGE
    assert message in capsys.readouterr().err
