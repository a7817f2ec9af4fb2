"""Loads credentials for an API server (docs/contributing/decisions/0011).

Certificates are verified as in kubectl. Keys are not written to disk.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from pathlib import Path
from typing import Final

from core.errors import BadInput
from core.kubernetes.credential_plugin import CredentialPlugin
from core.kubernetes.kubeconfig import ClusterAccess, Tls, read_kubeconfig, read_service_account
from core.kubernetes.tokens import NoAccess
from core.process.tls import without_strict_x509

SERVICE_ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")


async def access_of(kubeconfig: str, context: str = "") -> ClusterAccess:
    """Load the credentials of a kubeconfig; "" means this Pod's service account.

    ``context``: "" for the current context. Sends no request. Raises BadInput if the credentials
    cannot be used.
    """
    if kubeconfig and not await asyncio.to_thread(Path(kubeconfig).is_file):
        raise BadInput(
            f"kubeconfig {kubeconfig} is not a file",
            subject="kubeconfig",
            remedy="give the path of an existing kubeconfig",
        )
    try:
        if kubeconfig:
            access = await asyncio.to_thread(read_kubeconfig, Path(kubeconfig), context)
        else:
            access = await asyncio.to_thread(read_service_account, SERVICE_ACCOUNT)
        await access.token.authorization()
    except NoAccess as error:
        source = kubeconfig or "this Pod's service account"
        raise BadInput(
            f"cannot use the credentials of {source}: {error}",
            subject="kubeconfig",
            remedy="correct the credentials, or use another kubeconfig or context",
        ) from None
    return access


class ClientTls:
    """The SSL context of new connections, with the current certificate of an exec plugin."""

    def __init__(self, access: ClusterAccess) -> None:
        self._access = access
        self._loaded: tuple[Tls, ssl.SSLContext] | None = None

    async def context(self) -> ssl.SSLContext | bool:
        """The context; it is replaced when the plugin's certificate has changed.

        True, which is aiohttp's default, for a URL without TLS. Raises NoAccess.
        """
        if not self._access.server.startswith("https:"):
            return True
        tls = self._current_tls()
        if self._loaded is None or self._loaded[0] != tls:
            try:
                self._loaded = tls, await asyncio.to_thread(_tls_context, tls)
            except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
                raise NoAccess(
                    f"a certificate or key for {self._access.server} cannot be used: {error}"
                ) from None
        return self._loaded[1]

    def _current_tls(self) -> Tls:
        plugin = self._access.token
        if isinstance(plugin, CredentialPlugin):
            certificate, key = plugin.certificate
            if certificate:
                return self._access.tls._replace(certificate=certificate, key=key)
        return self._access.tls


def _tls_context(tls: Tls) -> ssl.SSLContext:
    """The SSL context for these settings. Raises OSError for an unusable certificate."""
    if tls.verifies_server:
        context = without_strict_x509(ssl.create_default_context(cadata=tls.authorities or None))
    else:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if tls.certificate:
        # OpenSSL reads keys only from files, so the key is written to a file in memory. Without
        # the argument ``password``, OpenSSL would prompt on the terminal.
        with os.fdopen(os.memfd_create("client-certificate"), "wb") as file:
            file.write(tls.certificate + b"\n" + tls.key)
            file.flush()
            context.load_cert_chain(f"/proc/self/fd/{file.fileno()}", password="")
    return context
