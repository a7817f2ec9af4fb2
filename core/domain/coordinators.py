"""A SpiderCoordinator as the log stores it, so that users can see its history.

Agents read the Kubernetes object; no decision depends on the stored value.
"""

from __future__ import annotations

from typing import Final, NamedTuple

COORDINATOR_KIND: Final = "SpiderCoordinator"


class Coordinator(NamedTuple):
    """The ``spec`` and ``status`` of a SpiderCoordinator.

    ``settings``: the ``spec``, each field as JSON text.
    """

    settings: dict[str, str] = {}
    phase: str = ""
    reason: str = ""
    overlay_pod_cidr: tuple[str, ...] = ()
    service_cidr: tuple[str, ...] = ()

    def fields(self) -> dict[str, str]:
        """The fields that have a value, by their names in the Kubernetes object."""
        status = {
            "phase": self.phase,
            "reason": self.reason,
            "overlayPodCIDR": ", ".join(self.overlay_pod_cidr),
            "serviceCIDR": ", ".join(self.service_cidr),
        }
        return {name: text for name, text in {**self.settings, **status}.items() if text}
