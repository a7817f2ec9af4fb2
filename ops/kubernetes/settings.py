"""Whether and how a controller speaks with Kubernetes."""

from __future__ import annotations

from typing import NamedTuple


class KubernetesSettings(NamedTuple):
    """``kubeconfig``: a file; "" takes the service account of the Pod this runs in."""

    kubeconfig: str = ""
    ipv4_enabled: bool = True
    ipv6_enabled: bool = True
