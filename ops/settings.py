"""Where etcd is, which cluster, where the archive lies: what orbctl and the controller share.

The names are those of the agent (``ORBWEAVER_*``); an option given on the command line wins over
its variable. Reads the environment it is given and the password file, nothing else, and imports no
client: ``orbctl --help`` must not pay for gRPC.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from core.errors import BadInput

if TYPE_CHECKING:
    from core.store.etcd import EtcdSettings

ETCD_ENDPOINT: Final = "127.0.0.1:2379"
CLUSTER: Final = "default"
ARCHIVE_DIRECTORY: Final = "/var/lib/orbweaver/archive"
CONTROLLER_ROLE: Final = "controller"
"""What controllers campaign for."""

ENDPOINTS_MAX: Final = 32
PASSWORD_BYTES_MAX: Final = 4_096

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
    from core.store.keys import check_name

    said = {
        name: options.get(name, "").strip() or variables.get(variable, "").strip()
        for name, variable in OPTIONS.items()
    }
    return ClusterSettings(
        _etcd(said, variables.get(PASSWORD, "").strip()),
        check_name(said["cluster"] or CLUSTER, "cluster name"),
        Path(said["archive"] or ARCHIVE_DIRECTORY),
    )


def _etcd(said: Mapping[str, str], password: str) -> EtcdSettings:
    from core.store.etcd import EtcdSettings

    endpoints = tuple(each.strip() for each in (said["etcd"] or ETCD_ENDPOINT).split(","))
    if not all(endpoints) or len(endpoints) > ENDPOINTS_MAX:
        raise BadInput(
            f"etcd endpoints {said['etcd'][:64]!r}: give 1 to {ENDPOINTS_MAX} of host:port",
            subject="etcd",
        )
    if bool(said["cert_file"]) != bool(said["key_file"]):
        raise BadInput(
            "a certificate without its key, or a key without its certificate",
            subject="cert_file",
            remedy="give both",
        )
    for name in ("ca_file", "cert_file", "key_file"):
        if said[name] and not Path(said[name]).is_file():
            raise BadInput(f"{said[name]} is not a file", subject=name)
    password = password or _password(said["password_file"])
    if said["user"] and not password:
        raise BadInput(
            f"etcd user {said['user']} has no password",
            subject="password_file",
            remedy=f"name a file, or set {PASSWORD}",
        )
    files = (said["ca_file"], said["cert_file"], said["key_file"])
    return EtcdSettings(endpoints, *files, said["user"], password)


def _password(path: str) -> str:
    if not path:
        return ""
    try:
        with Path(path).open("rb") as file:
            return file.read(PASSWORD_BYTES_MAX).decode().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"cannot read {path}: {error}", subject="password_file") from None
