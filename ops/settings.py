"""Settings of one cluster, for orbctl and the controller."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

from core.eventstore.etcd import EtcdSettings
from core.eventstore.etcd.settings_checks import ETCD_ENDPOINT, Access, etcd_settings
from core.eventstore.keys import check_name
from core.process.environment import (
    CLUSTER_OPTIONS,
    CLUSTER_VARIABLES,
    ETCD_PASSWORD,
    EnvironmentVariables,
)

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
    default_names: Mapping[str, str] = {},
) -> ClusterSettings:
    """Take each setting from the options, else the environment, else the defaults.

    The mappings have keys of ``CLUSTER_VARIABLES``; "" counts as missing. ``default_names``: the
    names of the defaults in errors. Raises BadInput, which names the option, variable or default.
    """
    environment = EnvironmentVariables(variables)
    set_options = {name: value.strip() for name, value in options.items() if value.strip()}
    values = {**environment.texts(CLUSTER_VARIABLES, defaults), **set_options}
    access = Access(*(values[name] for name in Access._fields))
    if not access.endpoints:
        access = access._replace(endpoints=ETCD_ENDPOINT)
    names = _names_in_errors(environment, set_options, default_names)
    etcd_names = Access(*(names[name] for name in Access._fields))
    return ClusterSettings(
        etcd_settings(access, environment.text(ETCD_PASSWORD), etcd_names),
        check_name(values["cluster"] or DEFAULT_CLUSTER, names["cluster"]),
        Path(values["archive"] or DEFAULT_ARCHIVE_DIRECTORY),
    )


def _names_in_errors(
    environment: EnvironmentVariables, options: Mapping[str, str], default_names: Mapping[str, str]
) -> dict[str, str]:
    """The option, variable or default that sets each setting; the variable if none does."""
    names = {}
    for name, variable in CLUSTER_VARIABLES.items():
        names[name] = environment.name_of(variable, default_names.get(name, variable))
        # Typer fills options from the variables: the user may not have typed an option that equals
        # its variable.
        if name in options and options[name] != environment.text(variable):
            names[name] = CLUSTER_OPTIONS[name]
    return names
