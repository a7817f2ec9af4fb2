"""The certificate of a TLS port when its files change."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
import trustme

from core.errors import BadInput
from ops.kubernetes.certificates.served_certificate import ServedCertificate
from ops.kubernetes.settings import CertificateFiles


def certificate_sent_by(server: ssl.SSLContext, authority: trustme.CA) -> bytes:
    """The certificate, in DER, that a server with the context sends in a handshake."""
    trust = ssl.create_default_context(cadata=authority.cert_pem.bytes().decode())
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    client_end = trust.wrap_bio(to_client, to_server, server_hostname="127.0.0.1")
    server_end = server.wrap_bio(to_server, to_client, server_side=True)
    for end in (client_end, server_end, client_end):
        try:
            end.do_handshake()
        except ssl.SSLWantReadError:
            continue
    certificate = client_end.getpeercert(binary_form=True)
    assert certificate is not None
    return certificate


def test_the_old_certificate_is_served_until_the_new_key_is_written(tmp_path: Path) -> None:
    files = CertificateFiles(tmp_path / "tls.crt", tmp_path / "tls.key")
    authority = trustme.CA()
    old, new = (authority.issue_cert("127.0.0.1") for _ in range(2))
    old.cert_chain_pems[0].write_to_path(str(files.certificate))
    old.private_key_pem.write_to_path(str(files.key))
    served = ServedCertificate(files, "webhook port")
    served.load()
    before = certificate_sent_by(served.context, authority)

    new.cert_chain_pems[0].write_to_path(str(files.certificate))
    with pytest.raises(BadInput, match=r"tls\.crt with key"):
        served.load()
    assert certificate_sent_by(served.context, authority) == before

    new.private_key_pem.write_to_path(str(files.key))
    served.load()
    assert certificate_sent_by(served.context, authority) != before
