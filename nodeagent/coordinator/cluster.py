"""The cluster's settings for the coordinator, behind one small interface.

Standalone they are ``orbweaver.coordinator`` of conf.yml. In Kubernetes the SpiderCoordinator goes
before that (``nodeagent.kubernetes.coordinators``), and Pods wait while it is not Synced
(docs/reference/coordinator.md, "SpiderCoordinator status"): such a source raises NotReady.
"""

from __future__ import annotations

from typing import Protocol

from nodeagent.coordinator.settings import WrittenSettings


class CoordinatorDefaults(Protocol):
    """Where the fields come from that a network configuration leaves out."""

    async def learn(self) -> None:
        """Before an ADD: wait a bounded time for the first answer of the source. Never fails."""
        ...

    def written(self) -> WrittenSettings:
        """The settings as last seen. Raises NotReady while no ADD may rely on them."""
        ...


class ConfiguredSettings(CoordinatorDefaults):
    """The settings that an operator has written into conf.yml."""

    def __init__(self, written: WrittenSettings) -> None:
        self._written = written

    async def learn(self) -> None:
        """They are known from the start."""

    def written(self) -> WrittenSettings:
        return self._written
