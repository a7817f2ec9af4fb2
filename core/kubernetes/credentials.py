"""Credentials for an API server, by the ``kubernetes`` package (docs/decisions/0011).

Only its asyncio side's configuration is used: service account tokens that rotate, kubeconfig with
certificates, tokens and exec plugins. Its models, watches and requests are not. The package is an
extra: only who switches Kubernetes on imports this module.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from aiohttp import ClientSession, TCPConnector
from kubernetes.aio.client import ApiClient, Configuration
from kubernetes.aio.client.rest import RESTClientObject
from kubernetes.aio.config import ConfigException, load_incluster_config, load_kube_config

from core.errors import BadInput
from core.kubernetes.connection import tcp_socket
from core.tls import not_strict

READ_BYTES = 2**21
"""Buffered of an answer or a watch: one object of the API may have 1.5 MB, on one line."""


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
        self.pool_manager = ClientSession(
            proxy=settings.proxy or _proxy_of(settings.host),
            connector=TCPConnector(
                limit=self.maxsize, ssl=self.ssl_context, socket_factory=tcp_socket
            ),
            read_bufsize=READ_BYTES,
            # Else it looks for a .netrc, in a thread, and for proxies before every request: more
            # than half of what a request costs.
            trust_env=False,
        )


def _proxy_of(url: str) -> str | None:
    """The proxy that the environment names for this server (``HTTPS_PROXY``, ``NO_PROXY``)."""
    server = urlsplit(url)
    if server.hostname and proxy_bypass(server.hostname):
        return None
    return getproxies().get(server.scheme)
