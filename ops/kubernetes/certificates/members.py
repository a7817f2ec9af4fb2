"""Issues the certificates of an embedded etcd, in Secrets: authority, members and clients.

The common name of a client's certificate is the client's user in etcd (``core.eventstore.roles``).
A Job of the chart issues certificates before an installation or upgrade. The Job replaces only an
unusable authority, because replacing all certificates interrupts etcd.
"""

from __future__ import annotations

import base64
import binascii
import datetime as dt
import logging
from typing import Final, NamedTuple

from core.errors import ApiNotFound
from core.eventstore.roles import AGENT_USER, CONTROLLER_USER, ROOT_USER
from core.kubernetes.api_client import Api, Object
from ops.kubernetes.certificates.authority import CertificateRequest, KeyPair, make_authority
from ops.kubernetes.certificates.certificate_keeper import SECRETS_PATH
from ops.kubernetes.certificates.rotation import (
    StoredAuthorities,
    is_authority_usable,
    is_certificate_good,
    issued_by,
)

CERTIFICATE_DAYS: Final = 1_825
"""Long, because only upgrades of the chart renew certificates."""

MEMBERS_MAX: Final = 5
"""The largest number of members that the chart allows."""

MEMBER: Final = "etcd-member"
"""The common name of members, the only one that etcd accepts on its peer port."""

_log: Final = logging.getLogger(__name__)


class SecretNames(NamedTuple):
    """The names of the Secrets, and the DNS domain of the members."""

    authority: str
    member: str
    agent: str
    controller: str
    root: str
    metrics: str
    domain: str


async def make_certificates(api: Api, namespace: str, names: SecretNames) -> list[str]:
    """Create missing certificates and renew due ones; return the names of the written Secrets.

    Raises ApiError.
    """
    now = dt.datetime.now(dt.UTC)
    secrets = _Secrets(api, namespace)
    authority = await secrets.read(names.authority)
    missing = KeyPair(b"", b"")  # stands for a certificate that does not exist
    if authority is None or not is_authority_usable(_stored(authority, missing), now):
        authority = make_authority("orbweaver-etcd authority", now)
        await secrets.write(names.authority, authority, authority)
    for name, request in (
        (names.member, _member(names.domain)),
        (names.agent, _client(AGENT_USER)),
        (names.controller, _client(CONTROLLER_USER)),
        (names.root, _client(ROOT_USER)),
        (names.metrics, _client("orbweaver-metrics")),  # not a user in etcd
    ):
        issued = await secrets.read(name)
        stored = _stored(authority, issued or missing)
        if not is_certificate_good(stored, request, now):
            await secrets.write(name, authority, issued_by(stored, request, now))
    return secrets.written


def _stored(authority: KeyPair, issued: KeyPair) -> StoredAuthorities:
    return StoredAuthorities((authority.certificate,), authority.key, issued)


def _member(domain: str) -> CertificateRequest:
    # etcd resolves the names in a peer's certificate and compares them with the peer's address. A
    # name with an asterisk needs a reverse look-up, which not every DNS server supports.
    service = domain.partition(".")[0]
    members = (f"{service}-{number}.{domain}" for number in range(MEMBERS_MAX))
    names = (domain, *members, f"*.{domain}", "localhost", "127.0.0.1", "::1")
    return CertificateRequest(MEMBER, names, usages=("server", "client"), days=CERTIFICATE_DAYS)


def _client(user: str) -> CertificateRequest:
    return CertificateRequest(user, usages=("client",), days=CERTIFICATE_DAYS)


class _Secrets:
    def __init__(self, api: Api, namespace: str) -> None:
        self.written: list[str] = []
        self._api = api
        self._path = SECRETS_PATH.format(namespace)
        self._read: dict[str, Object] = {}

    async def read(self, name: str) -> KeyPair | None:
        """The certificate; None if it is missing or unusable."""
        try:
            secret = self._read[name] = await self._api.get(f"{self._path}/{name}")
        except ApiNotFound:
            return None
        data = secret.get("data") or {}
        try:
            certificate, key = (base64.b64decode(data[field]) for field in ("tls.crt", "tls.key"))
        except (KeyError, binascii.Error):
            return None
        return KeyPair(certificate, key)

    async def write(self, name: str, authority: KeyPair, issued: KeyPair) -> None:
        """Write a Secret. Raises ApiConflict after a concurrent write; the Job is then retried."""
        values = {
            "ca.crt": authority.certificate,
            "tls.crt": issued.certificate,
            "tls.key": issued.key,
        }
        data = {field: base64.b64encode(value).decode() for field, value in values.items()}
        before = self._read.get(name)
        if before is None:
            secret_type = {"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls"}
            metadata = {"name": name, "labels": {"app": "orbweaver"}}
            await self._api.create(self._path, {**secret_type, "metadata": metadata, "data": data})
        else:
            version = {"resourceVersion": before["metadata"]["resourceVersion"]}
            await self._api.merge(f"{self._path}/{name}", {"metadata": version, "data": data})
        self.written.append(name)
        _log.info("issued the certificate in Secret %s", name)
