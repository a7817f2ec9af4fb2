"""A harness for tests of NetworkAttachmentDefinitions (NADs)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from core.kubernetes.api_client import Object
from ops.kubernetes.network_attachment_definitions import NADS_PATH, Attachments
from tests.kubernetes.objects import create, replace
from tests.kubernetes.translator_harness import events_about, until
from tests.support.kubernetes import ApiServer

NAD_DEFINITION = """
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: network-attachment-definitions.k8s.cni.cncf.io}
spec:
  group: k8s.cni.cncf.io
  scope: Namespaced
  names:
    plural: network-attachment-definitions
    singular: network-attachment-definition
    kind: NetworkAttachmentDefinition
    shortNames: [net-attach-def]
  versions:
    - name: v1
      served: true
      storage: true
      schema:
        openAPIV3Schema:
          type: object
          properties: {spec: {type: object, properties: {config: {type: string}}}}
"""
DEFAULT_NADS_PATH = NADS_PATH.format("default")


class Networks:
    """Writes networks, and reads the NADs that ``attachments`` creates for them."""

    def __init__(self, server: ApiServer, attachments: Attachments) -> None:
        self.server = server
        self.attachments = attachments

    async def create(self, body: Object) -> Object:
        answer = await asyncio.to_thread(create, self.server, body)
        assert answer.status == 201, answer.message
        return answer.body

    async def replace(self, body: Object) -> None:
        answer = await asyncio.to_thread(replace, self.server, body)
        assert answer.status == 200, answer.message

    async def nad(self, name: str = "net") -> Object:
        """The NAD; {} if there is no NAD with this name."""
        answer = await asyncio.to_thread(self.server.request, "GET", f"{DEFAULT_NADS_PATH}/{name}")
        return answer.body if answer.status == 200 else {}

    async def events(self, name: str) -> list[Object]:
        """Wait for Events about an object; return them."""
        return await until(lambda: events_about(self.server, name))

    async def until_nad(self, holds: Callable[[Object], object], name: str = "net") -> Object:
        """Wait until the condition holds for the NAD; return the NAD."""
        async with asyncio.timeout(30):
            while not holds(nad := await self.nad(name)):
                await asyncio.sleep(0.02)
        return nad
