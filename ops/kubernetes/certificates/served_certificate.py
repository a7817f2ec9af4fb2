"""The certificate of a port that this controller serves, reloaded when its files change.

Files as in a mounted Secret, so that a rotation needs no restart. The webhooks and the console
serve the same ones.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from typing import Final

from core.errors import BadInput
from ops.kubernetes.settings import CertificateFiles

CERTIFICATES_POLL_S: Final = 10.0

_log: Final = logging.getLogger(__name__)


class ServedCertificate:
    """A TLS context with the certificate. ``port``: the name of the port in logs."""

    def __init__(self, files: CertificateFiles, port: str) -> None:
        self._files = files
        self._port = port
        self._stamp: tuple[int, ...] = ()
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2

    def load(self) -> None:
        """Read the files. Raises BadInput."""
        files = self._files
        try:
            stamp = files.stamp()
            self.context.load_cert_chain(files.certificate, files.key)
        except (OSError, ssl.SSLError) as error:
            message = f"cannot use {files.certificate} and {files.key}: {error}"
            raise BadInput(message, subject="tls-server-cert") from None
        self._stamp = stamp

    async def reload_on_change(self) -> None:
        """Reload the files when they change; keep the old certificate if that fails."""
        while True:
            await asyncio.sleep(CERTIFICATES_POLL_S)
            try:
                if self._files.stamp() != self._stamp:
                    self.load()
                    _log.info("reloaded the certificate of the %s", self._port)
            except (BadInput, OSError) as error:
                _log.warning(
                    "the new certificate of the %s could not be loaded; it keeps the old one: %s",
                    self._port,
                    error,
                )
