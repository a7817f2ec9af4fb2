"""The certificates of an embedded etcd: an authority, its members' and its clients', in Secrets.

Each kind of client has a certificate of its own, whose common name is its user in etcd
(``core.eventstore.roles``): agents, controllers, root, and a reader of metrics, whom etcd does not
know.

A Job of the chart runs this before an installation and before every upgrade, so what is there stays
and what is due is issued anew by the same authority. The authority itself is replaced only when it
cannot issue any more: then members and clients change together, which interrupts.
"""

from __future__ import annotations

import base64
import binascii
import datetime as dt
import logging
from typing import Final, NamedTuple

from core.errors import ApiNotFound
from core.eventstore.roles import AGENT_USER, CONTROLLER_USER, ROOT_USER
from core.kubernetes.api import Api, Object
from ops.kubernetes.certificates.authority import CertificateRequest, KeyPair, make_authority
from ops.kubernetes.certificates.certificate_keeper import SECRETS
from ops.kubernetes.certificates.rotation import StoredAuthorities, is_good, is_usable, issued_by

CERTIFICATE_DAYS: Final = 1_825
"""Long, because only an upgrade of the chart brings a new one."""

MEMBERS_MAX: Final = 5
"""Members of an embedded etcd: the most that the chart takes."""

MEMBER: Final = "etcd-member"
"""The common name of members, the only one that etcd accepts on its peer port."""

_log: Final = logging.getLogger(__name__)


class SecretNames(NamedTuple):
    """Of the Secrets, and the domain below which members are found."""

    authority: str
    member: str
    agent: str
    controller: str
    root: str
    metrics: str
    domain: str


async def make_certificates(api: Api, namespace: str, names: SecretNames) -> list[str]:
    """Make what is missing or due; the Secrets that were written. Raises ApiError."""
    now = dt.datetime.now(dt.UTC)
    secrets = _Secrets(api, namespace)
    authority = await secrets.read(names.authority)
    nobody = KeyPair(b"", b"")
    if authority is None or not is_usable(_kept(authority, nobody), now):
        authority = make_authority("orbweaver-etcd authority", now)
        await secrets.write(names.authority, authority, authority)
    for name, wanted in (
        (names.member, _member(names.domain)),
        (names.agent, _client(AGENT_USER)),
        (names.controller, _client(CONTROLLER_USER)),
        (names.root, _client(ROOT_USER)),
        (names.metrics, _client("orbweaver-metrics")),
    ):
        own = await secrets.read(name)
        kept = _kept(authority, own or nobody)
        if not is_good(kept, wanted, now):
            await secrets.write(name, authority, issued_by(kept, wanted, now))
    return secrets.written


def _kept(authority: KeyPair, own: KeyPair) -> StoredAuthorities:
    return StoredAuthorities((authority.certificate,), authority.key, own)


def _member(domain: str) -> CertificateRequest:
    # A member looks the names of a peer's certificate up, to compare with where it comes from; for
    # the one with an asterisk it needs reverse look-ups, which not every cluster's DNS answers.
    service = domain.partition(".")[0]
    members = (f"{service}-{number}.{domain}" for number in range(MEMBERS_MAX))
    names = (domain, *members, f"*.{domain}", "localhost", "127.0.0.1", "::1")
    return CertificateRequest(MEMBER, names, ("server", "client"), CERTIFICATE_DAYS)


def _client(user: str) -> CertificateRequest:
    return CertificateRequest(user, (), ("client",), CERTIFICATE_DAYS)


class _Secrets:
    """TLS Secrets of one namespace."""

    def __init__(self, api: Api, namespace: str) -> None:
        self.written: list[str] = []
        self._api = api
        self._path = SECRETS.format(namespace)
        self._found: dict[str, Object] = {}

    async def read(self, name: str) -> KeyPair | None:
        """None where there is none, or nothing of use in it."""
        try:
            secret = self._found[name] = await self._api.get(f"{self._path}/{name}")
        except ApiNotFound:
            return None
        data = secret.get("data") or {}
        try:
            certificate, key = (base64.b64decode(data[field]) for field in ("tls.crt", "tls.key"))
        except (KeyError, binascii.Error):
            return None
        return KeyPair(certificate, key)

    async def write(self, name: str, authority: KeyPair, own: KeyPair) -> None:
        """Raises ApiConflict when somebody else writes at the same time: the Job is run again."""
        values = {"ca.crt": authority.certificate, "tls.crt": own.certificate, "tls.key": own.key}
        data = {field: base64.b64encode(value).decode() for field, value in values.items()}
        before = self._found.get(name)
        if before is None:
            one = {"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls"}
            metadata = {"name": name, "labels": {"app": "orbweaver"}}
            await self._api.create(self._path, {**one, "metadata": metadata, "data": data})
        else:
            version = {"resourceVersion": before["metadata"]["resourceVersion"]}
            await self._api.merge(f"{self._path}/{name}", {"metadata": version, "data": data})
        self.written.append(name)
        _log.info("created the certificate in Secret %s", name)
