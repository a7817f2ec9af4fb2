"""Make the SSL context from the certificate files that the settings name.

The files may be rotated while a process runs. ``channel`` compares ``Certificates`` to detect a
rotation.
"""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import NamedTuple, Self

from core.errors import BadInput
from core.eventstore.etcd.settings import EtcdSettings
from core.process.tls import without_strict_x509


class Certificates(NamedTuple):
    """The contents of the PEM files; None where the settings name no file."""

    ca: bytes | None
    cert: bytes | None
    key: bytes | None

    @classmethod
    def read(cls, settings: EtcdSettings) -> Self:
        """Raises OSError."""
        names = (settings.ca_file, settings.cert_file, settings.key_file)
        return cls(*(Path(name).read_bytes() if name else None for name in names))


def ssl_context(settings: EtcdSettings) -> ssl.SSLContext | None:
    """The context for connections to etcd; None without TLS. Raises BadInput, OSError.

    Without a CA file, the context trusts the system's authorities.
    """
    if not settings.secure:
        return None
    try:
        context = without_strict_x509(ssl.create_default_context(cafile=settings.ca_file or None))
        if settings.cert_file:
            context.load_cert_chain(settings.cert_file, settings.key_file)
    except ssl.SSLError as error:
        files = ", ".join(filter(None, (settings.ca_file, settings.cert_file, settings.key_file)))
        raise BadInput(
            f"the certificates for etcd cannot be used: {error.reason or error}",
            subject=files,
            remedy="give PEM files, and the key that belongs to the certificate",
        ) from error
    return context
