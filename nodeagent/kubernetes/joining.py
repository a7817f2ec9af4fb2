"""Joining a cluster: credentials, and facts that are kept up to date in the background."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from core.kubernetes.api import Api
from core.kubernetes.connection import open_connection
from nodeagent.kubernetes.facts import KubernetesFacts
from nodeagent.settings.values import Settings

_log: Final = logging.getLogger(__name__)


class Cluster:
    """A cluster that was joined. ``facts`` are its; leave it at the end."""

    def __init__(self, api: Api, settings: Settings) -> None:
        self.facts = KubernetesFacts(api, settings.node_name, settings.fixed)
        self._api = api
        self._watching = asyncio.ensure_future(self.facts.run())

    async def stop_watching(self) -> None:
        """What was seen so far is all that is seen."""
        self._watching.cancel()
        await asyncio.gather(self._watching, return_exceptions=True)

    async def leave(self) -> None:
        """Watch no more, and close every connection."""
        await self.stop_watching()
        await self._api.close()


async def joined(settings: Settings) -> Cluster | None:
    """The cluster of the settings; None: standalone. Raises BadInput without credentials.

    Nothing is waited for: the agent serves what it can while the API server is away.
    """
    if settings.kubeconfig is None:
        return None
    api = Api(await open_connection(settings.kubeconfig))
    _log.info("facts come from the API server")
    return Cluster(api, settings)
