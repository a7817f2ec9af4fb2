"""``orbctl nad`` prints NADs, or writes CNI configuration files for a node without Multus."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from tests.support.orbctl_harness import OrbctlHarness

NETWORK = """
apiVersion: spiderpool.spidernet.io/v2beta1
kind: SpiderMultusConfig
metadata: {name: NAME, namespace: NAMESPACE}
spec:
  cniType: macvlan
  macvlan: {master: [ens3], ippools: {ipv4: [lan]}}
  coordinator: {detectIPConflict: true}
"""
PLUGIN = """
apiVersion: spiderpool.spidernet.io/v2beta1
kind: SpiderMultusConfig
metadata: {name: plugin}
spec: {cniType: custom, customCNI: '{"cniVersion":"0.3.1","name":"plugin","type":"host-local"}'}
---
"""
CUSTOM = """
apiVersion: spiderpool.spidernet.io/v2beta1
kind: SpiderMultusConfig
metadata: {name: existing}
spec: {cniType: custom}
"""


@pytest.fixture
def orbctl(tmp_path: Path) -> OrbctlHarness:
    return OrbctlHarness(tmp_path / "archive")


def write_networks(path: Path, *names: tuple[str, str]) -> str:
    texts = [NETWORK.replace("NAMESPACE", space).replace("NAME", name) for space, name in names]
    path.write_text("---".join([*texts, PLUGIN + CUSTOM]), "utf-8")
    return str(path)


def test_each_network_with_a_configuration_is_written_to_a_file(
    orbctl: OrbctlHarness, tmp_path: Path
) -> None:
    source = write_networks(tmp_path / "networks.yaml", ("kube-system", "rack"), ("shop", "lan"))

    result = orbctl.orbctl("nad", "-f", source, "--directory", str(tmp_path / "made"))

    assert (result.code, result.out) == (0, "")
    assert "existing has no CNI configuration" in result.err
    file_names = {path.name for path in (tmp_path / "made").iterdir()}
    assert file_names == {"rack.conflist", "lan.conflist", "plugin.conf"}
    rack = json.loads((tmp_path / "made/rack.conflist").read_text("utf-8"))
    assert [plugin["type"] for plugin in rack["plugins"]] == ["macvlan", "coordinator"]
    assert rack["plugins"][1]["detectIPConflict"]


@pytest.mark.parametrize("option", [(), ("-o", "yaml"), ("-o", "table")])
def test_nads_are_printed_as_yaml_documents(
    orbctl: OrbctlHarness, tmp_path: Path, option: tuple[str, ...]
) -> None:
    source = write_networks(tmp_path / "networks.yaml", ("shop", "lan"))

    result = orbctl.orbctl("nad", "-f", source, *option)

    assert result.code == 0
    documents = list(yaml.safe_load_all(result.out))
    assert [document["metadata"]["name"] for document in documents] == ["lan", "plugin", "existing"]


def test_names_of_nads_are_printed_as_kubectl_prints_them(
    orbctl: OrbctlHarness, tmp_path: Path
) -> None:
    source = write_networks(tmp_path / "networks.yaml", ("shop", "lan"))

    result = orbctl.orbctl("nad", "-f", source, "-o", "name")

    assert result.out.splitlines() == [
        "networkattachmentdefinition.k8s.cni.cncf.io/lan",
        "networkattachmentdefinition.k8s.cni.cncf.io/plugin",
        "networkattachmentdefinition.k8s.cni.cncf.io/existing",
    ]


def test_no_file_is_written_if_two_networks_have_the_same_name(
    orbctl: OrbctlHarness, tmp_path: Path
) -> None:
    source = write_networks(tmp_path / "networks.yaml", ("kube-system", "lan"), ("shop", "lan"))

    result = orbctl.orbctl("nad", "-f", source, "--directory", str(tmp_path / "made"))

    assert result.code == 2
    assert "two networks are called lan and would be written to the same file" in result.err
    assert not (tmp_path / "made").exists()
