"""Watches the SpiderMultusConfigs, to find NICs whose addresses a network provider binds."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

from core.domain.provider.provider_nics import NicConfiguration, is_bound_by_provider
from core.domain.request_facts import PodFacts
from core.domain.selection.multus import resolve
from core.domain.selection.selection_request import SelectionSettings
from core.errors import BadInput, NotReady
from core.kubernetes.api_client import Api, Object
from core.kubernetes.informer import ObjectKey, Reflector
from core.manifests.kinds.fields import API_VERSION
from core.manifests.networks.nad_renderer import attachment_name, master_of
from core.manifests.networks.network_parser import network_of

NETWORKS: Final = f"/apis/{API_VERSION}/spidermultusconfigs"
NET_CLASS: Final = Path("/sys/class/net")

_log: Final = logging.getLogger(__name__)


class CachedNetwork(NamedTuple):
    """The cached part of a SpiderMultusConfig. ``nad``: the name of its net-attach-def."""

    nad: str
    cni_type: str = ""
    vlan_mode: str = ""
    master: str = ""


def mac_of(link: str) -> str:
    """The MAC address; "" if the link does not exist."""
    try:
        return (NET_CLASS / link / "address").read_text("ascii").strip() if link else ""
    except (OSError, UnicodeDecodeError):
        return ""


class KubernetesNetworks:
    """The ``provider_binding.Networks`` of a cluster."""

    def __init__(
        self,
        api: Api,
        selection: SelectionSettings,
        read_mac: Callable[[str], str] = mac_of,
    ) -> None:
        self.configs = Reflector(api, NETWORKS, cached_network)
        self._selection = selection
        self._read_mac = read_mac
        self._by_nad: dict[str, dict[ObjectKey, CachedNetwork]] = {}
        self._nad_of: dict[ObjectKey, str] = {}
        self.configs.listen(self._on_configs)

    async def run(self) -> None:
        """Watch until cancelled."""
        await self.configs.run()

    def nics(self, pod: PodFacts, interfaces: tuple[str, ...]) -> tuple[NicConfiguration, ...]:
        """The configurations of these NICs, without NICs on unknown networks.

        Raises NotReady until SpiderMultusConfigs have been listed once.
        """
        configurations = []
        for interface in interfaces:
            network = resolve(interface, pod, self._selection).network
            if not network:
                continue
            if not self.configs.listed.is_set():
                raise NotReady(
                    f"unknown whether addresses of {network} need a network provider:"
                    " SpiderMultusConfigs have not been listed",
                    subject=network,
                    remedy="check the API server, and that the agent may list spidermultusconfigs",
                )
            for cached in self._by_nad.get(network, {}).values():
                is_bound = is_bound_by_provider(cached.cni_type, cached.vlan_mode)
                mac = self._read_mac(cached.master) if is_bound else ""
                configurations.append(
                    NicConfiguration(interface, cached.cni_type, cached.vlan_mode, mac)
                )
        return tuple(configurations)

    def _on_configs(self, keys: set[ObjectKey]) -> None:
        for key in keys:
            before = self._nad_of.pop(key, None)
            if before is not None:
                self._by_nad[before].pop(key)
                if not self._by_nad[before]:
                    del self._by_nad[before]
            config = self.configs.objects.get(key)
            if config is not None:
                nad = self._nad_of[key] = f"{key[0]}/{config.nad}"
                self._by_nad.setdefault(nad, {})[key] = config


def cached_network(config: Object) -> CachedNetwork:
    """The cached part of a SpiderMultusConfig; an unreadable one has no CNI type."""
    metadata = config["metadata"]
    try:
        network = network_of(config)
    except BadInput as error:
        name = f"{metadata['namespace']}/{metadata['name']}"
        _log.warning(
            "cannot read SpiderMultusConfig %s, so no network provider binds its addresses: %s",
            name,
            error,
        )
        return CachedNetwork(metadata["name"])
    nad = attachment_name(network.name, network.annotations)
    vlan, cni_type = network.spec.vlan, network.spec.cni_type or ""
    if vlan is None or not vlan.master:
        return CachedNetwork(nad, cni_type)
    return CachedNetwork(nad, cni_type, vlan.vlan_mode or "", master_of(vlan))
