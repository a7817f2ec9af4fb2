"""Environment variables, parsed as in Spiderpool.

See docs/reference/configuration.md, "Environment variables". A value that cannot be used raises
BadInput.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from core.errors import BadInput

_TRUE: Final = frozenset(("1", "t", "T", "true", "TRUE", "True"))
_FALSE: Final = frozenset(("0", "f", "F", "false", "FALSE", "False"))
PORT_MAX: Final = 65_535
KUBECONFIG_VARIABLE: Final = "ORBWEAVER_KUBECONFIG"

KUBERNETES: Final = "ORBWEAVER_KUBERNETES"
"""``true`` if the process uses the cluster in which it runs."""

MULTUS_NAMESPACE: Final = "ORBWEAVER_MULTUS_NAMESPACE"
"""The namespace of a default network that a Pod names without a namespace: Multus's
``multusNamespace``."""

COORDINATOR_NAMES: Final = (
    "SPIDERPOOL_COORDINATOR_DEFAULT_NAME",
    "SPIDERPOOL_COORDINATOR_DEAFULT_NAME",
)
"""The first variable that is set is used. Spiderpool's code and existing manifests use the
misspelt name."""

ETCD_VARIABLES: Final = {
    "endpoints": "ORBWEAVER_ETCD_ENDPOINTS",
    "ca_file": "ORBWEAVER_ETCD_CA_FILE",
    "cert_file": "ORBWEAVER_ETCD_CERT_FILE",
    "key_file": "ORBWEAVER_ETCD_KEY_FILE",
    "user": "ORBWEAVER_ETCD_USER",
    "password_file": "ORBWEAVER_ETCD_PASSWORD_FILE",
}
"""Field of ``settings_checks.Access`` -> the variable."""

CLUSTER_VARIABLES: Final = {
    **ETCD_VARIABLES,
    "cluster": "ORBWEAVER_CLUSTER",
    "archive": "ORBWEAVER_ARCHIVE_DIR",
}

CLUSTER_OPTIONS: Final = {
    "endpoints": "--etcd",
    "ca_file": "--etcd-ca",
    "cert_file": "--etcd-cert",
    "key_file": "--etcd-key",
    "user": "--etcd-user",
    "password_file": "--etcd-password-file",
    "cluster": "--cluster",
    "archive": "--archive-dir",
}
"""Name in ``CLUSTER_VARIABLES`` -> the option of orbctl."""

ETCD_PASSWORD: Final = "ORBWEAVER_ETCD_PASSWORD"  # noqa: S105  # the name of a variable
"""No command-line option sets the password, because other users can read command lines."""

LEVELS: Final = ("debug", "info", "warn", "error", "fatal", "panic")


class EnvironmentVariables:
    """Typed access to environment variables."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        self._variables = variables

    def text(self, name: str, default: str = "", *, refuse_empty: bool = False) -> str:
        """The trimmed value, or the default if the variable is missing or empty.

        ``refuse_empty``: raise BadInput if the variable is set to an empty value.
        """
        if name not in self._variables:
            return default
        value = self._variables[name].strip()
        if refuse_empty and not value:
            raise BadInput(f"{name} is empty", subject=name, remedy="set it, or leave it out")
        return value or default

    def first(self, names: Sequence[str], default: str) -> tuple[str, str]:
        """(value, name) of the first variable that has a value, else (default, last name)."""
        first_set = next((name for name in names if self.text(name)), names[-1])
        return self.text(first_set, default), first_set

    def name_of(self, variable: str, key: str) -> str:
        """What an error names as a setting's source: the variable if it is set, else ``key``."""
        return variable if self.text(variable) else key

    def boolean(self, name: str, *, default: bool, refuse_empty: bool = False) -> bool:
        """A boolean, in a spelling that Go's ParseBool accepts."""
        value = self.text(name, refuse_empty=refuse_empty)
        if not value:
            return default
        if value in _TRUE:
            return True
        if value in _FALSE:
            return False
        raise BadInput(
            f"{name} {value[:64]!r} is neither true nor false",
            subject=name,
            remedy="set it to true or false",
        )

    def number(self, name: str, default: int, highest: int, *, refuse_empty: bool = True) -> int:
        """A decimal number from 0 to ``highest``."""
        value = self.text(name, refuse_empty=refuse_empty)
        if not value:
            return default
        digits = value.lstrip("0") or "0"
        # Python does not convert more than 4,300 digits: compare the lengths first.
        is_too_long = len(digits) > len(str(highest))
        if not (value.isascii() and value.isdigit()) or is_too_long or int(digits) > highest:
            raise BadInput(
                f"{name} {value[:64]!r} is not a number from 0 to {highest}",
                subject=name,
                remedy="correct the number",
            )
        return int(digits)

    def port(self, name: str, default: int) -> int:
        """A TCP port."""
        return self.number(name, default, PORT_MAX)

    def kubeconfig(self) -> str | None:
        """The path of the kubeconfig; "" means the Pod's service account, None no Kubernetes."""
        path = self.text(KUBECONFIG_VARIABLE)
        return path if path or self.boolean(KUBERNETES, default=False) else None

    def texts(
        self, variables: Mapping[str, str], defaults: Mapping[str, str] = {}
    ) -> dict[str, str]:
        """Read the variable of each key; return key -> value.

        A missing variable has the value in ``defaults``, else "".
        """
        return {
            key: self.text(variable, defaults.get(key, "")) for key, variable in variables.items()
        }

    def level(self, name: str, default: str) -> str:
        """A log level."""
        value = self.text(name, default, refuse_empty=True).lower()
        if value not in LEVELS:
            raise BadInput(
                f"{name} {value[:64]!r} is not a log level",
                subject=name,
                remedy=f"use {', '.join(LEVELS)}",
            )
        return value
