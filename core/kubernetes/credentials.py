"""Credentials for an API server, by the ``kubernetes`` package (docs/decisions/0011).

Only its asyncio side's configuration and transport are used: service account tokens that rotate,
kubeconfig with certificates, tokens and exec plugins. Its models and watches are not. The package
is an extra: only who switches Kubernetes on imports this module.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from aiohttp import TCPConnector
from kubernetes.aio.client import ApiClient, Configuration
from kubernetes.aio.client.rest import RESTClientObject
from kubernetes.aio.config import ConfigException, load_incluster_config, load_kube_config

from core.errors import BadInput
from core.kubernetes.connection import tcp_socket
from core.tls import not_strict


async def client_for(kubeconfig: str, context: str = "") -> ApiClient:
    """Load the credentials; "" takes those of the Pod this runs in. Nothing is sent yet.

    ``context`` of the kubeconfig, by default the one that it calls its current one.
    Raises BadInput when there are none that can be used.
    """
    settings = Configuration()
    if kubeconfig and not await asyncio.to_thread(Path(kubeconfig).is_file):
        raise BadInput(f"{kubeconfig} is not a file", subject="kubeconfig")
    try:
        if kubeconfig:
            await load_kube_config(kubeconfig, context or None, client_configuration=settings)
        else:
            load_incluster_config(settings)
    except (ConfigException, OSError) as error:
        where = kubeconfig or "this Pod's service account"
        raise BadInput(f"{where} gives no access: {error}", subject="kubeconfig") from None
    client = ApiClient(settings)
    client.rest_client = _Transport(settings)
    return client


class _Transport(RESTClientObject):  # type: ignore[misc]  # the package is not typed for us
    """The package's transport over sockets that notice a dead peer, verifying as kubectl does."""

    def __init__(self, settings: Configuration) -> None:
        super().__init__(settings)
        not_strict(self.ssl_context)

    def _create_connector(self) -> TCPConnector:
        return TCPConnector(limit=self.maxsize, ssl=self.ssl_context, socket_factory=tcp_socket)
