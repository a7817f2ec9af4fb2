"""The Kubernetes settings of a controller."""

from __future__ import annotations

from pathlib import Path
from typing import Final, NamedTuple

from core.manifests.networks.pod_slots import SlotSettings

WEBHOOK_PORT: Final = 5722


class CertificateFiles(NamedTuple):
    """The paths of a certificate and its key, in PEM."""

    certificate: Path
    key: Path

    def modification_times(self) -> tuple[int, ...]:
        """The modification times of the files. Raises OSError."""
        return tuple(path.stat().st_mtime_ns for path in self)


class SecretSettings(NamedTuple):
    """The Secret with the certificate that controllers issue themselves.

    ``names``: DNS names. ``directory``: where certificate and key are written.
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
    """The Pod webhook. It applies to namespaces in ``include`` (all if empty), except ``exclude``.

    ``slots``: the device resources that the webhook requests for the networks of a Pod.
    """

    exclude: tuple[str, ...] = ("kube-system", "spiderpool", "metallb-system", "istio-system")
    include: tuple[str, ...] = ()
    slots: SlotSettings = SlotSettings()


class WebhookSettings(NamedTuple):
    """The webhook server. ``address``: "" for all addresses of both families.

    ``guards_deletion``: refuse the deletion of an object in use, instead of draining it.
    ``injection``: None turns the Pod webhook off. ``secret``: None if the user provides the files.
    """

    files: CertificateFiles
    address: str = ""
    port: int = WEBHOOK_PORT
    guards_deletion: bool = False
    injection: InjectionSettings | None = None
    secret: SecretSettings | None = None


class CoordinatorReconcilerSettings(NamedTuple):
    """The SpiderCoordinator to reconcile, and the sources of its status.

    ``cni_directory``: the node's CNI files. ``cilium``: Cilium's ConfigMap (namespace/name).
    """

    name: str = "default"
    cni_directory: Path = Path("/etc/cni/net.d")
    cilium: str = "kube-system/cilium-config"


class LeaseSettings(NamedTuple):
    """The Lease that reports the leader; it is valid for ``duration_s`` after a renewal."""

    namespace: str
    name: str = "spiderpool-controller-leases"
    duration_s: int = 6


class KubernetesSettings(NamedTuple):
    """The settings of the Kubernetes integration; None or False turns a feature off.

    ``kubeconfig``: a path, "" for the service account of the Pod. ``subnets_enabled``: pools can
    belong to subnets (enableSpiderSubnet). ``networks``: create NADs of SpiderMultusConfigs.
    ``ipam_claims``: write the status of IPAMClaims.
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
