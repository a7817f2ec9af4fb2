"""The Kubernetes settings of a controller."""

from __future__ import annotations

from pathlib import Path
from typing import Final, NamedTuple

from core.manifests.networks.slots import SlotSettings

WEBHOOK_PORT: Final = 5722


class CertificateFiles(NamedTuple):
    """The paths of certificate and key, in PEM."""

    certificate: Path
    key: Path

    def stamp(self) -> tuple[int, ...]:
        """The modification times of the files. Raises OSError."""
        return tuple(path.stat().st_mtime_ns for path in self)


class SecretSettings(NamedTuple):
    """The Secret with the certificate that controllers issue themselves.

    ``names``: the DNS names of the certificate; ``directory``: of the files that are served.
    """

    name: str
    namespace: str
    names: tuple[str, ...]
    directory: Path

    @property
    def files(self) -> CertificateFiles:
        """The files in the directory."""
        return CertificateFiles(self.directory / "tls.crt", self.directory / "tls.key")


class InjectionSettings(NamedTuple):
    """The Pod webhook: for namespaces not in ``exclude`` and, unless it is empty, in ``include``.

    ``slots``: the device resources that Pods request because of their networks.
    """

    exclude: tuple[str, ...] = ("kube-system", "spiderpool", "metallb-system", "istio-system")
    include: tuple[str, ...] = ()
    slots: SlotSettings = SlotSettings()


class WebhookSettings(NamedTuple):
    """The webhook server. ``address`` "": all addresses of both families.

    ``guards_deletion``: the deletion of an object in use is refused, instead of draining it.
    ``injection`` None: there is no Pod webhook. ``secret`` None: the user provides the files.
    """

    files: CertificateFiles
    address: str = ""
    port: int = WEBHOOK_PORT
    guards_deletion: bool = False
    injection: InjectionSettings | None = None
    secret: SecretSettings | None = None


class CoordinatorReconcilerSettings(NamedTuple):
    """``cni_directory``: the node's CNI configurations. ``cilium``: ConfigMap, namespace/name."""

    name: str = "default"
    cni_directory: Path = Path("/etc/cni/net.d")
    cilium: str = "kube-system/cilium-config"


class LeaseSettings(NamedTuple):
    """The Lease that reports the leader. ``duration_s``: its validity without a renewal."""

    namespace: str
    name: str = "spiderpool-controller-leases"
    duration_s: int = 6


class KubernetesSettings(NamedTuple):
    """``kubeconfig``: a file; "": the service account of the Pod.

    ``subnets_enabled`` False (enableSpiderSubnet): pools belong to no subnet. ``webhook`` None: no
    admission webhooks. ``networks``: SpiderMultusConfigs become NADs. ``coordinator`` None: the
    status of the SpiderCoordinator is not written. ``lease`` None: no Lease reports the leader.
    ``ipam_claims``: the status of IPAMClaims is written.
    """

    kubeconfig: str = ""
    ipv4_enabled: bool = True
    ipv6_enabled: bool = True
    subnets_enabled: bool = True
    webhook: WebhookSettings | None = None
    networks: bool = False
    coordinator: CoordinatorReconcilerSettings | None = None
    lease: LeaseSettings | None = None
    ipam_claims: bool = False
