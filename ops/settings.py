"""Settings of one cluster, for orbctl and the controller."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

from core.eventstore.etcd import EtcdSettings
from core.eventstore.etcd.settings_checks import ETCD_ENDPOINT, Access, etcd_settings
from core.eventstore.keys import check_name
from core.process.environment import CLUSTER_VARIABLES, ETCD_PASSWORD, EnvironmentVariables

DEFAULT_CLUSTER: Final = "default"
DEFAULT_ARCHIVE_DIRECTORY: Final = "/var/lib/orbweaver/archive"
CONTROLLER_ROLE: Final = "controller"
"""The name of the lease for which the controllers compete."""


class ClusterSettings(NamedTuple):
    """The settings of one cluster. ``cluster``: its name in etcd."""

    etcd: EtcdSettings
    cluster: str
    archive: Path


def cluster_settings(
    variables: Mapping[str, str],
    options: Mapping[str, str] = {},
    defaults: Mapping[str, str] = {},
) -> ClusterSettings:
    """Take each setting from the options, else the environment, else the defaults. Raises BadInput.

    ``options`` and ``defaults`` have the keys of ``CLUSTER_VARIABLES``; "" counts as missing.
    """
    environment = EnvironmentVariables(variables)
    set_options = {name: value.strip() for name, value in options.items() if value.strip()}
    values = {**environment.texts(CLUSTER_VARIABLES, defaults), **set_options}
    access = Access(*(values[name] for name in Access._fields))
    if not access.endpoints:
        access = access._replace(endpoints=ETCD_ENDPOINT)
    names_in_errors = Access(*Access._fields)._replace(endpoints="etcd")
    return ClusterSettings(
        etcd_settings(access, environment.text(ETCD_PASSWORD), names_in_errors),
        check_name(values["cluster"] or DEFAULT_CLUSTER, "cluster name"),
        Path(values["archive"] or DEFAULT_ARCHIVE_DIRECTORY),
    )
