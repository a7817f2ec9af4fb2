"""Whether and how a controller speaks with Kubernetes."""

from __future__ import annotations

from pathlib import Path
from typing import Final, NamedTuple

from core.manifests.networks.slots import SlotSettings

WEBHOOK_PORT: Final = 5722


class CertificateFiles(NamedTuple):
    """Where certificate and key are, in PEM."""

    certificate: Path
    key: Path

    def stamp(self) -> tuple[int, ...]:
        """What changes when a file does. Raises OSError."""
        return tuple(path.stat().st_mtime_ns for path in self)


class SecretSettings(NamedTuple):
    """The Secret in which controllers keep the certificate that they make themselves.

    ``names`` are those that the certificate is for; ``directory`` is where it is served from.
    """

    name: str
    namespace: str
    names: tuple[str, ...]
    directory: Path

    @property
    def files(self) -> CertificateFiles:
        """What is in the directory."""
        return CertificateFiles(self.directory / "tls.crt", self.directory / "tls.key")


class InjectionSettings(NamedTuple):
    """Namespaces whose Pods are asked about: none of ``exclude``, and ``include`` if it has any.

    ``slots``: what their Pods are made to ask for by the networks that they are on.
    """

    exclude: tuple[str, ...] = ("kube-system", "spiderpool", "metallb-system", "istio-system")
    include: tuple[str, ...] = ()
    slots: SlotSettings = SlotSettings()


class WebhookSettings(NamedTuple):
    """``address`` "": every one, of both families: the API server comes from another machine.

    ``guards_deletion``: what is in use cannot be deleted at all, instead of draining.

    ``injection`` None: Pods are created without asking anybody. ``secret`` None: somebody else
    brings the files.
    """

    files: CertificateFiles
    address: str = ""
    port: int = WEBHOOK_PORT
    guards_deletion: bool = False
    injection: InjectionSettings | None = None
    secret: SecretSettings | None = None


class CoordinatorReconcilerSettings(NamedTuple):
    """``cni_directory``: where the node keeps CNI configurations. ``cilium``: namespace/name."""

    name: str = "default"
    cni_directory: Path = Path("/etc/cni/net.d")
    cilium: str = "kube-system/cilium-config"


class LeaseSettings(NamedTuple):
    """The report of who leads: a Lease. ``duration_s``: after how long it is void."""

    namespace: str
    name: str = "spiderpool-controller-leases"
    duration_s: int = 6


class KubernetesSettings(NamedTuple):
    """``kubeconfig``: a file; "" takes the service account of the Pod this runs in.

    ``subnets_enabled`` False (enableSpiderSubnet): pools belong to no subnet.
    ``webhook`` None: no admission webhooks. ``networks``: SpiderMultusConfigs become NADs.
    ``coordinator`` None: nobody keeps the SpiderCoordinator's status. ``lease`` None: no Lease
    tells who leads.
    """

    kubeconfig: str = ""
    ipv4_enabled: bool = True
    ipv6_enabled: bool = True
    subnets_enabled: bool = True
    webhook: WebhookSettings | None = None
    networks: bool = False
    coordinator: CoordinatorReconcilerSettings | None = None
    lease: LeaseSettings | None = None
