"""Translates the values of a Spiderpool release to values for Orbweaver's chart. Pure.

The result has every value that the user set, except those of ``DROPPED``. It also has the values of
``WRITTEN`` that the user did not set, because the defaults of the two charts differ.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, Final

from ops.migration.facts import HelmRelease, Values

WRITTEN: Final = (
    *(f"ipam.{name}" for name in ("enableIPv4", "enableIPv6", "enableStatefulSet")),
    *("ipam.enableKubevirtStaticIP", "ipam.enableIPConflictDetection"),
    *("ipam.enableGatewayDetection", "ipam.enableCleanOutdatedEndpoint"),
    *("ipam.spiderSubnet.enable", "ipam.spiderSubnet.autoPool.enable"),
    "ipam.spiderSubnet.autoPool.defaultRedundantIPNumber",
    *(f"ipam.gc.{name}" for name in ("enabled", "gcAll.intervalInSecond")),
    *(f"ipam.gc.statelessPod.zombieOn{node}Node" for node in ("Ready", "NotReady")),
    "ipam.gc.statelessPod.enableGcRunningPodOnEmptyPodStatusIPs",
    "ipam.gc.gcDeletingTimeOutPodDelay",
    *("global.cniBinHostPath", "global.cniConfHostPath", "global.ipamUNIXSocketHostPath"),
    *("multus.enableMultusConfig", "multus.multusCNI.install"),
    "spiderpoolAgent.tuneSysctlConfig",
    "spiderpoolController.podResourceInject",
    "spiderpoolController.enableValidatingResourcesDeletedWebhook",
)

SRIOV: Final = (
    *("sriov.install", "sriov.resourcePrefix"),
    *(f"sriov.operatorConfig.{name}" for name in ("configDaemonNodeSelector", "disableDrain")),
)
"""Paths that are written too if ``sriov.install`` is true."""

SRIOV_OF_THE_OPERATOR: Final = (
    *("name", "replicas", "hostnetwork", "image", "resources", "priorityClassName"),
    *("nodeSelector", "tolerations", "affinity", "webhooktls", "injectortls"),
    *("operatorConfig.enableInjector", "operatorConfig.enableOperatorWebhook"),
    *("operatorConfig.logLevel", "operatorConfig.configurationMode"),
)
"""Paths under ``sriov`` that only the SR-IOV operator uses."""

DROPPED: Final = (
    *("global.nameOverride", "global.configName", "spiderpoolInit", "clusterDefaultPool"),
    *(f"spiderpool{part}.name" for part in ("Agent", "Controller")),
    *(f"spiderpool{part}.binName" for part in ("Agent", "Controller")),
    *(f"spiderpool{part}.image" for part in ("Agent", "Controller")),
    *(f"spiderpool{part}.resources" for part in ("Agent", "Controller")),
    *(f"spiderpool{part}.debug.gopsPort" for part in ("Agent", "Controller")),
    *("spiderpoolController.tls", "multus.multusCNI.name", "multus.multusCNI.uninstall"),
    *(f"sriov.{name}" for name in SRIOV_OF_THE_OPERATOR),
    "rdma",
)
"""Paths of values for Spiderpool's programs and for other software."""

DEFAULT_NETWORK: Final = "multus.multusCNI.defaultCniCRName"


def translate(release: HelmRelease) -> dict[str, Any]:
    """The values for Orbweaver's chart."""
    effective = _merged(release.defaults, release.values)
    result = copy.deepcopy(dict(release.values))
    has_sriov = bool(value_at(effective, "sriov.install"))
    for path in (*WRITTEN, *(SRIOV if has_sriov else ())):
        if (value := value_at(effective, path)) is not None:
            _put(result, path, copy.deepcopy(value))
    for path in DROPPED:
        result = _without_path(result, path.split("."))
    network = value_at(effective, DEFAULT_NETWORK)
    if network:
        name = network if "/" in str(network) else f"{release.namespace}/{network}"
        _put(result, DEFAULT_NETWORK, name)
    return result


def dropped_values(release: HelmRelease) -> list[str]:
    """The paths in ``DROPPED`` that the user set."""
    return [path for path in DROPPED if value_at(release.values, path) is not None]


def value_at(values: Values, path: str) -> Any:  # noqa: ANN401  # a value of a chart
    """The value at a dotted path; None if the path does not exist."""
    result: object = values
    for key in path.split("."):
        if not isinstance(result, Mapping):
            return None
        result = result.get(key)
    return result


def effective_value(release: HelmRelease, path: str) -> Any:  # noqa: ANN401  # a value of a chart
    """The value that the user set, else the chart's default."""
    return value_at(_merged(release.defaults, release.values), path)


def _merged(defaults: Values, values: Values) -> dict[str, Any]:
    """Merge mappings key by key, as Helm does; any other value replaces the default."""
    result = dict(defaults)
    for key, value in values.items():
        default = result.get(key)
        if isinstance(value, Mapping) and isinstance(default, Mapping):
            result[key] = _merged(default, value)
        else:
            result[key] = value
    return result


def _put(values: dict[str, Any], path: str, value: object) -> None:
    *parents, last = path.split(".")
    mapping = values
    for key in parents:
        if not isinstance(mapping.get(key), dict):
            mapping[key] = {}
        mapping = mapping[key]
    mapping[last] = value


def _without_path(values: Values, keys: list[str]) -> dict[str, Any]:
    """A copy without the value at the path, and without mappings that become empty."""
    first, *inner_keys = keys
    inner = values.get(first)
    others = {key: value for key, value in values.items() if key != first}
    if not inner_keys:
        return others
    if not isinstance(inner, Mapping):
        return dict(values)
    remaining = _without_path(inner, inner_keys)
    return others | {first: remaining} if remaining else others
