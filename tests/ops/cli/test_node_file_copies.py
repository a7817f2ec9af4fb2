"""``orbctl`` reads copies of the files that host-local writes on nodes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from core.errors import BadInput
from ops.cli import node_file_copies
from ops.cli.node_file_copies import CONFIGURATIONS_PATH, NETWORKS_PATH, read_node_folders
from tests.support.parts import HOST_LOCAL, needs

PLUGIN_DIRECTORIES = ("/usr/lib/cni", "/opt/cni/bin")
HOST_LOCAL_PROGRAM = shutil.which("host-local", path=os.pathsep.join(PLUGIN_DIRECTORIES))


def configure(root: Path, **ipam: object) -> str:
    config = {"cniVersion": "0.4.0", "name": "lan", "type": "bridge"}
    text = json.dumps(config | {"ipam": {"type": "host-local", "subnet": "10.6.0.0/24", **ipam}})
    path = root / CONFIGURATIONS_PATH / "10-lan.conf"
    path.parent.mkdir(parents=True)
    path.write_text(text)
    return text


@pytest.mark.skipif(HOST_LOCAL_PROGRAM is None, reason=needs(HOST_LOCAL))
def test_address_and_container_are_read_from_host_locals_files(tmp_path: Path) -> None:
    node = tmp_path / "node-a"
    config = json.loads(configure(node))
    config["ipam"]["dataDir"] = str(node / NETWORKS_PATH)
    call = {"CNI_COMMAND": "ADD", "CNI_CONTAINERID": "c0ffee", "CNI_NETNS": "/none"}
    variables = os.environ | call | {"CNI_IFNAME": "eth0", "CNI_PATH": "/usr/lib/cni"}
    subprocess.run(
        [str(HOST_LOCAL_PROGRAM)], env=variables, input=json.dumps(config), text=True, check=True
    )

    (files,) = read_node_folders(str(tmp_path))

    assert files.node == "node-a"
    stored = dict(files.networks["lan"])
    assert stored.pop("10.6.0.2").split() == ["c0ffee", "eth0"]
    assert set(stored) == {"last_reserved_ip.0", "lock"}


def test_files_are_read_from_the_data_directory_of_the_configuration(tmp_path: Path) -> None:
    configure(tmp_path / "node-a", dataDir="/run/state")
    (tmp_path / "node-a/run/state/lan").mkdir(parents=True)
    (tmp_path / "node-a/run/state/lan/10.6.0.9").write_text("c0ffee")

    (files,) = read_node_folders(str(tmp_path))

    assert files.networks == {"lan": {"10.6.0.9": "c0ffee"}}


@pytest.mark.parametrize(
    ("folder", "text"),
    [
        ("", "no folder for a node"),
        ("node-a", "no configuration in etc/cni/net.d and no network in var/lib/cni/networks"),
    ],
)
def test_a_directory_without_files_of_a_node_is_refused(
    tmp_path: Path, folder: str, text: str
) -> None:
    (tmp_path / folder).mkdir(exist_ok=True)

    with pytest.raises(BadInput, match=text):
        read_node_folders(str(tmp_path))


def test_a_directory_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="is not a directory"):
        read_node_folders(str(tmp_path / "absent"))


def test_a_file_that_is_too_long_is_refused(tmp_path: Path) -> None:
    network = tmp_path / "node-a" / NETWORKS_PATH / "lan"
    network.mkdir(parents=True)
    (network / "10.6.0.9").write_text("x" * (node_file_copies.RESERVATION_BYTES_MAX + 1))

    with pytest.raises(BadInput, match="has more than 4096 bytes"):
        read_node_folders(str(tmp_path))
