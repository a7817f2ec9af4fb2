"""The names, labels and affinities of automatic pools.

The labels identify the application; the name is only for people. See
docs/reference/automatic-pool-rules.md, "Names and labels".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from core.domain.addresses.ip_address import Family
from core.domain.name_syntax import SUBDOMAIN_CHARS_MAX
from core.domain.patterns.labels import LabelSelector

UID_CHARS_MAX: Final = 5

LABEL_PREFIX: Final = "ipam.spidernet.io/"
OWNER_SUBNET: Final = f"{LABEL_PREFIX}owner-spider-subnet"
OWNER_GV: Final = f"{LABEL_PREFIX}owner-application-gv"
OWNER_KIND: Final = f"{LABEL_PREFIX}owner-application-kind"
OWNER_NAMESPACE: Final = f"{LABEL_PREFIX}owner-application-namespace"
OWNER_NAME: Final = f"{LABEL_PREFIX}owner-application-name"
"""A pool with this label is automatic."""
OWNER_UID: Final = f"{LABEL_PREFIX}owner-application-uid"
INTERFACE: Final = f"{LABEL_PREFIX}interface"
RECLAIM_LABEL: Final = f"{LABEL_PREFIX}ippool-reclaim"
IP_VERSION: Final = f"{LABEL_PREFIX}ip-version"
IP_NUMBER: Final = f"{LABEL_PREFIX}ippool-ip-number"
"""An annotation of Pod templates and automatic pools, not a label."""

APPLICATION_KEYS: Final = tuple(
    f"{LABEL_PREFIX}app-{part}"
    for part in ("api-group", "api-version", "kind", "namespace", "name")
)
"""The only labels by which an automatic pool may select Pods."""

_IP_VERSIONS: Final[Mapping[Family, str]] = {4: "IPv4", 6: "IPv6"}


class ApplicationKey(NamedTuple):
    """An application by name. A recreated application has the same key, but another UID."""

    api_version: str
    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        """The form in a subnet's ``status.controlledIPPools``: ``apps_v1_Deployment_shop_web``."""
        gv = self.api_version.replace("/", "_")
        return f"{gv}_{self.kind}_{self.namespace}_{self.name}"


class PoolScope(NamedTuple):
    """What an automatic pool is for: a NIC and family of an application, in a subnet."""

    application: ApplicationKey
    interface: str
    family: Family
    subnet: str


def scope_labels(scope: PoolScope) -> dict[str, str]:
    """The labels of a scope, for any UID of the application."""
    application = scope.application
    return {
        OWNER_SUBNET: scope.subnet,
        OWNER_GV: application.api_version.replace("/", "_"),
        OWNER_KIND: application.kind,
        OWNER_NAMESPACE: application.namespace,
        OWNER_NAME: application.name,
        INTERFACE: scope.interface,
        IP_VERSION: _IP_VERSIONS[scope.family],
    }


def owner_labels(uid: str, *, reclaim: bool) -> dict[str, str]:
    """The labels that change when an application adopts a pool or changes ``ippool-reclaim``."""
    return {OWNER_UID: uid, RECLAIM_LABEL: "true" if reclaim else "false"}


def affinity(application: ApplicationKey) -> LabelSelector:
    """Selects exactly the Pods of this application."""
    group, _, version = application.api_version.rpartition("/")  # "v1" is version v1 of group ""
    parts = (group, version, *application[1:])
    return LabelSelector(dict(zip(APPLICATION_KEYS, parts, strict=True)))


def pool_name(scope: PoolScope, uid: str, attempt: int = 1) -> str:
    """A name such as ``auto4-web-eth0-1f2e3``; later attempts end in ``-2``, ``-3``, ...

    The application's name is cut so that the pool's name is a valid DNS subdomain.
    """
    suffix = f"-{scope.interface}-{uid.rpartition('-')[2][:UID_CHARS_MAX]}".lower()
    suffix = suffix.rstrip("-") + (f"-{attempt}" if attempt > 1 else "")
    prefix = f"auto{scope.family}-"
    length = SUBDOMAIN_CHARS_MAX - len(prefix) - len(suffix)
    return prefix + scope.application.name.lower()[:length].rstrip("-.") + suffix


def application_of(labels: Mapping[str, str]) -> ApplicationKey | None:
    """The application of a pool; None if the pool is not automatic."""
    if OWNER_NAME not in labels:
        return None
    gv = labels.get(OWNER_GV, "").replace("_", "/")
    keys = (OWNER_KIND, OWNER_NAMESPACE, OWNER_NAME)
    return ApplicationKey(gv, *(labels.get(key, "") for key in keys))


def scope_of(labels: Mapping[str, str], family: Family) -> PoolScope | None:
    """The scope of an automatic pool; None if a label is missing."""
    application = application_of(labels)
    if application is None or INTERFACE not in labels or OWNER_SUBNET not in labels:
        return None
    return PoolScope(application, labels[INTERFACE], family, labels[OWNER_SUBNET])


def is_reclaimable(labels: Mapping[str, str]) -> bool:
    """Whether the pool is deleted with its application."""
    return labels.get(RECLAIM_LABEL) == "true"
