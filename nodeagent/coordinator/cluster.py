"""The cluster's settings for the coordinator, behind one small interface.

Standalone they are ``orbweaver.coordinator`` of conf.yml. In Kubernetes they are a
SpiderCoordinator, and Pods wait while that is not Synced (spec/datapath.md 1.1): such a source
raises NotReady.
"""

from __future__ import annotations

from typing import Protocol

from nodeagent.coordinator.settings import WrittenSettings


class ClusterSettings(Protocol):
    """Where a network configuration's unsaid fields come from."""

    def written(self) -> WrittenSettings:
        """What the cluster says now. Raises NotReady while it must not be relied upon."""
        ...


class ConfiguredSettings(ClusterSettings):
    """What an operator has written into conf.yml."""

    def __init__(self, written: WrittenSettings) -> None:
        self._written = written

    def written(self) -> WrittenSettings:
        return self._written
