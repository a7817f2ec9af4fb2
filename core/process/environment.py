"""Environment variables, parsed as in Spiderpool.

See docs/reference/configuration.md, "Environment variables".

Values are trimmed. An empty required variable, a malformed number and a boolean that Go's ParseBool
rejects are refused with the variable's name. Reads only the mapping that it gets.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from core.errors import BadInput

_TRUE: Final = frozenset(("1", "t", "T", "true", "TRUE", "True"))
_FALSE: Final = frozenset(("0", "f", "F", "false", "FALSE", "False"))
PORT_MAX: Final = 65_535
KUBECONFIG: Final = "ORBWEAVER_KUBECONFIG"
"""A file: the process works with that cluster."""

KUBERNETES: Final = "ORBWEAVER_KUBERNETES"
"""``true``: it works with the cluster it runs in."""

MULTUS_NAMESPACE: Final = "ORBWEAVER_MULTUS_NAMESPACE"
"""The namespace of default networks without one: Multus' ``multusNamespace``."""

COORDINATOR_NAMES: Final = (
    "SPIDERPOOL_COORDINATOR_DEFAULT_NAME",
    "SPIDERPOOL_COORDINATOR_DEAFULT_NAME",
)
"""The name of the SpiderCoordinator: as Spiderpool's documents spell it, and as its code does."""

ETCD_VARIABLES: Final = {
    "endpoints": "ORBWEAVER_ETCD_ENDPOINTS",
    "ca_file": "ORBWEAVER_ETCD_CA_FILE",
    "cert_file": "ORBWEAVER_ETCD_CERT_FILE",
    "key_file": "ORBWEAVER_ETCD_KEY_FILE",
    "user": "ORBWEAVER_ETCD_USER",
    "password_file": "ORBWEAVER_ETCD_PASSWORD_FILE",
}
"""etcd's endpoints and credentials, by the fields of ``core.eventstore.etcd.access.Access``."""

CLUSTER_VARIABLES: Final = {
    **ETCD_VARIABLES,
    "cluster": "ORBWEAVER_CLUSTER",
    "archive": "ORBWEAVER_ARCHIVE_DIR",
}
"""What names a cluster: its etcd, its name there, its archive directory."""

ETCD_PASSWORD: Final = "ORBWEAVER_ETCD_PASSWORD"  # noqa: S105  # the name of a variable
"""The password itself has no option: other users of the machine can read a command line."""

LEVELS: Final = ("debug", "info", "warn", "error", "fatal", "panic")


class EnvironmentVariables:
    """Typed access to environment variables."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        self._variables = variables

    def text(self, name: str, default: str = "", *, required: bool = False) -> str:
        """A text; ``required``: set but empty is refused."""
        if name not in self._variables:
            return default
        value = self._variables[name].strip()
        if required and not value:
            raise BadInput(f"{name} is empty", subject=name, remedy="set it, or leave it out")
        return value or default

    def first(self, names: Sequence[str], default: str) -> tuple[str, str]:
        """The text of the first variable that is set, and the variable's name."""
        name = next((one for one in names if self.text(one)), names[-1])
        return self.text(name, default), name

    def truth(self, name: str, *, default: bool, required: bool = False) -> bool:
        """A truth value by Go's ParseBool."""
        value = self.text(name, required=required)
        if not value:
            return default
        if value in _TRUE:
            return True
        if value in _FALSE:
            return False
        raise BadInput(f"{name} {value[:64]!r} is neither true nor false", subject=name)

    def number(self, name: str, default: int, highest: int, *, required: bool = True) -> int:
        """A decimal number from 0 to ``highest``."""
        value = self.text(name, required=required)
        if not value:
            return default
        if not (value.isascii() and value.isdigit()) or int(value) > highest:
            raise BadInput(
                f"{name} {value[:64]!r} is not a number from 0 to {highest}", subject=name
            )
        return int(value)

    def port(self, name: str, default: int) -> int:
        """A TCP port."""
        return self.number(name, default, PORT_MAX)

    def kubeconfig(self) -> str | None:
        """The kubeconfig; "" for the service account of the Pod; None: without Kubernetes."""
        path = self.text(KUBECONFIG)
        return path if path or self.truth(KUBERNETES, default=False) else None

    def texts(
        self, variables: Mapping[str, str], defaults: Mapping[str, str] = {}
    ) -> dict[str, str]:
        """Each variable of a table (name -> variable), else its default, else ""."""
        return {
            name: self.text(variable, defaults.get(name, ""))
            for name, variable in variables.items()
        }

    def level(self, name: str, default: str) -> str:
        """A log level."""
        value = self.text(name, default, required=True).lower()
        if value not in LEVELS:
            raise BadInput(
                f"{name} {value[:64]!r} is not a log level",
                subject=name,
                remedy=f"use {', '.join(LEVELS)}",
            )
        return value
