"""A certificate authority made with openssl."""

from __future__ import annotations

import ssl
import subprocess
from pathlib import Path


class PlainAuthority:
    """An authority that lacks the key usage extension, with a server certificate that it signed."""

    def __init__(self, directory: Path) -> None:
        self.ca = directory / "ca.pem"
        self.certificate = directory / "server.pem"
        self.key = directory / "server.key"
        request, ca_key = directory / "server.csr", directory / "ca.key"
        names = directory / "names"
        names.write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
        new_key = ("-newkey", "rsa:2048", "-nodes")
        _openssl(
            "req", "-x509", *new_key, "-subj", "/CN=authority", "-keyout", ca_key, "-out", self.ca
        )
        _openssl("req", *new_key, "-subj", "/CN=localhost", "-keyout", self.key, "-out", request)
        _openssl(
            *("x509", "-req", "-in", request, "-CA", self.ca, "-CAkey", ca_key),
            *("-CAcreateserial", "-extfile", names, "-out", self.certificate),
        )

    def server_context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate, self.key)
        return context


def _openssl(*words: str | Path) -> None:
    subprocess.run(["openssl", *words], check=True, capture_output=True)
