"""Where etcd is, which cluster, where the archive lies: what orbctl and the controller share.

The names are those of the agent (``ORBWEAVER_*``); an option given on the command line wins over
its variable. Reads the environment it is given and the password file, nothing else, and imports no
client: ``orbctl --help`` must not pay for gRPC.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from core.eventstore.etcd import EtcdSettings

CLUSTER: Final = "default"
ARCHIVE_DIRECTORY: Final = "/var/lib/orbweaver/archive"
CONTROLLER_ROLE: Final = "controller"
"""What controllers campaign for."""

OPTIONS: Final = {
    "etcd": "ORBWEAVER_ETCD_ENDPOINTS",
    "ca_file": "ORBWEAVER_ETCD_CA_FILE",
    "cert_file": "ORBWEAVER_ETCD_CERT_FILE",
    "key_file": "ORBWEAVER_ETCD_KEY_FILE",
    "user": "ORBWEAVER_ETCD_USER",
    "password_file": "ORBWEAVER_ETCD_PASSWORD_FILE",
    "cluster": "ORBWEAVER_CLUSTER",
    "archive": "ORBWEAVER_ARCHIVE_DIR",
}
"""Option -> variable."""

PASSWORD: Final = "ORBWEAVER_ETCD_PASSWORD"  # noqa: S105  # the name of a variable
"""The password itself has no option: command lines are public."""


class ClusterSettings(NamedTuple):
    """One cluster: its etcd, its name in there, and its archive directory."""

    etcd: EtcdSettings
    cluster: str
    archive: Path


def cluster_settings(
    variables: Mapping[str, str], options: Mapping[str, str] = {}
) -> ClusterSettings:
    """The settings; ``options`` by the names in ``OPTIONS``, "" for not given. Raises BadInput."""
    from core.eventstore.etcd.access import ETCD_ENDPOINT, Access, etcd_settings
    from core.eventstore.keys import check_name

    said = {
        name: options.get(name, "").strip() or variables.get(variable, "").strip()
        for name, variable in OPTIONS.items()
    }
    return ClusterSettings(
        etcd_settings(
            Access(said["etcd"] or ETCD_ENDPOINT, *(said[name] for name in Access._fields[1:])),
            variables.get(PASSWORD, "").strip(),
            Access("etcd", *Access._fields[1:]),
        ),
        check_name(said["cluster"] or CLUSTER, "cluster name"),
        Path(said["archive"] or ARCHIVE_DIRECTORY),
    )
