"""The certificate of a TLS port of the controller, reloaded when its files change."""

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
        self._loaded_times: tuple[int, ...] = ()
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2

    def load(self) -> None:
        """Read the files. Raises BadInput."""
        files = self._files
        try:
            modification_times = files.modification_times()
            # A failed load leaves a context unusable, so another context loads the files first.
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(files.certificate, files.key)
            self.context.load_cert_chain(files.certificate, files.key)
        except (OSError, ssl.SSLError) as error:
            message = f"cannot use certificate {files.certificate} with key {files.key}: {error}"
            remedy = "write a certificate and its key to these files, in PEM"
            raise BadInput(message, subject="tls-server-cert", remedy=remedy) from None
        self._loaded_times = modification_times

    async def reload_on_change(self) -> None:
        """Reload the files when they change; keep the old certificate if the reload fails."""
        while True:
            await asyncio.sleep(CERTIFICATES_POLL_S)
            try:
                if self._files.modification_times() != self._loaded_times:
                    self.load()
                    _log.info("reloaded the certificate of the %s", self._port)
            except (BadInput, OSError) as error:
                _log.warning(
                    "cannot load the new certificate of the %s; the old one stays in use: %s",
                    self._port,
                    error,
                )
