"""``docker-compose.yml`` and ``Containerfile`` agree with each other and with the repository."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import pytest
import yaml

from tests.packaging.project import PRODUCT_PACKAGES, PROJECT_ROOT, console_scripts

ETCD_MEMBERS = ("etcd-1", "etcd-2", "etcd-3")
OUR_SERVICES = ("agent", "controller")
MONITORING = ("collector", "jaeger", "prometheus", "grafana")
SETTING_NAME = re.compile(r"\b(?:ORBWEAVER|SPIDERPOOL)_[A-Z_]+\b")


@pytest.fixture(scope="module")
def services() -> Mapping[str, Any]:
    document = yaml.safe_load((PROJECT_ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
    return dict(document["services"])


@pytest.fixture(scope="module")
def stages() -> dict[str, str]:
    text = (PROJECT_ROOT / "Containerfile").read_text(encoding="utf-8")
    names_and_texts = re.split(r"^FROM (?:\S+) AS (\S+)$", text, flags=re.MULTILINE)[1:]
    return dict(zip(names_and_texts[::2], names_and_texts[1::2], strict=True))


def test_the_composition_has_three_etcd_members_our_processes_and_monitoring(
    services: Mapping[str, Any],
) -> None:
    assert services.keys() == {*ETCD_MEMBERS, *OUR_SERVICES, *MONITORING}


def test_ports_are_published_only_on_the_loopback_address(services: Mapping[str, Any]) -> None:
    ports = [port for service in services.values() for port in service.get("ports", ())]

    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_every_mounted_file_exists(services: Mapping[str, Any]) -> None:
    mounted = [
        volume.partition(":")[0]
        for service in services.values()
        for volume in service.get("volumes", ())
        if isinstance(volume, str) and volume.startswith("./ops/")
    ]

    assert mounted
    assert all((PROJECT_ROOT / path).exists() for path in mounted)


def test_every_etcd_member_has_the_same_three_peers(services: Mapping[str, Any]) -> None:
    for member in ETCD_MEMBERS:
        environment = services[member]["environment"]
        peers = dict(peer.split("=", 1) for peer in environment["ETCD_INITIAL_CLUSTER"].split(","))

        assert set(peers) == set(ETCD_MEMBERS)
        assert environment["ETCD_NAME"] == member
        assert environment["ETCD_INITIAL_ADVERTISE_PEER_URLS"] == peers[member]


def test_every_third_party_image_is_pinned_to_a_version(services: Mapping[str, Any]) -> None:
    images = [services[name]["image"] for name in (*ETCD_MEMBERS, *MONITORING)]

    assert all(re.search(r":v?\d+\.\d+", image) for image in images)


@pytest.mark.parametrize("name", OUR_SERVICES)
def test_our_services_run_commands_that_exist(
    services: Mapping[str, Any], stages: dict[str, str], name: str
) -> None:
    (command,) = services[name]["command"]
    target = services[name]["build"]["target"]

    assert command in console_scripts()
    assert f'CMD ["{command}"]' in stages[target]


def test_the_controller_is_not_root_and_the_agent_is_not_privileged(
    services: Mapping[str, Any], stages: dict[str, str]
) -> None:
    assert re.search(r"^USER [1-9]\d*:[1-9]\d*$", stages["controller"], re.MULTILINE)
    assert "cap_add" not in services["controller"]
    assert services["agent"]["cap_drop"] == ["ALL"]
    assert not any("privileged" in service for service in services.values())


def test_the_agent_can_write_to_the_folders_tmp_and_run(services: Mapping[str, Any]) -> None:
    """The root file system is read-only, but iptables writes a lock file to /run."""
    assert services["agent"]["read_only"]
    assert {"/tmp", "/run"} <= set(services["agent"]["tmpfs"])


@pytest.mark.parametrize("name", OUR_SERVICES)
def test_our_services_send_traces_to_the_collector(services: Mapping[str, Any], name: str) -> None:
    endpoint = services[name]["environment"]["ORBWEAVER_TRACES_ENDPOINT"]

    assert endpoint == "http://collector:4317"
    assert "collector" in services


def test_the_product_reads_every_setting_of_docker_compose_yml() -> None:
    product_settings = {
        setting
        for package in PRODUCT_PACKAGES
        for path in (PROJECT_ROOT / package).rglob("*.py")
        for setting in SETTING_NAME.findall(path.read_text(encoding="utf-8"))
    }
    compose_settings = set(
        SETTING_NAME.findall((PROJECT_ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
    )

    assert compose_settings - product_settings == set()


def test_the_build_context_has_the_sources_of_the_wheel() -> None:
    lines = (PROJECT_ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    included = {line.removeprefix("!") for line in lines if line.startswith("!")}
    sources = {*PRODUCT_PACKAGES, "pyproject.toml", "LICENSE", "README.md", "requirements"}

    assert sources <= included
