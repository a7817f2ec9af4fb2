"""Client and server authenticate each other by certificates."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import trustme

from core.errors import StoreUnavailable
from core.eventstore.etcd import EtcdSettings
from core.eventstore.kv import Get, Put
from tests.core.eventstore.etcd.conftest import OpenStore
from tests.support.authorities import PlainAuthority
from tests.support.emulation import needs_real_time
from tests.support.etcd import Certificates, EtcdCluster

pytestmark = pytest.mark.etcd


class TlsEtcd(NamedTuple):
    """A cluster that accepts only TLS, and the settings of a trusted client."""

    cluster: EtcdCluster
    settings: EtcdSettings


@pytest.fixture
def tls_etcd(tmp_path: Path) -> Iterator[TlsEtcd]:
    authority = trustme.CA()
    server = authority.issue_cert("127.0.0.1")
    client = authority.issue_cert("agent@example.org", common_name="agent")
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    for name, issued in (("server", server), ("client", client)):
        issued.private_key_pem.write_to_path(str(tmp_path / f"{name}.key"))
        issued.cert_chain_pems[0].write_to_path(str(tmp_path / f"{name}.pem"))
    certificates = Certificates(
        tmp_path / "ca.pem", tmp_path / "server.pem", tmp_path / "server.key"
    )
    with EtcdCluster(tmp_path, certificates=certificates) as cluster:
        yield TlsEtcd(
            cluster,
            EtcdSettings(
                cluster.endpoints,
                ca_file=str(tmp_path / "ca.pem"),
                cert_file=str(tmp_path / "client.pem"),
                key_file=str(tmp_path / "client.key"),
                read_deadline_s=1.0,
                read_attempt_s=0.5,
            ),
        )


@needs_real_time
async def test_a_client_with_a_certificate_reads_writes_and_watches(
    tls_etcd: TlsEtcd, open_store: OpenStore
) -> None:
    store = open_store(tls_etcd.settings)

    revision = (await store.commit([], [Put(b"k", b"v")])).revision
    batch = await anext(store.watch([(b"k", b"")], after=revision - 1))

    assert (await store.read([Get(b"k")])).ranges[0].kvs[0].value == b"v"
    assert [change.value for change in batch.changes] == [b"v"]


@needs_real_time
async def test_endpoints_may_be_written_as_urls(tls_etcd: TlsEtcd, open_store: OpenStore) -> None:
    urls = tuple(member.url for member in tls_etcd.cluster.members)
    store = open_store(tls_etcd.settings._replace(endpoints=urls))

    assert (await store.read([Get(b"k")])).ranges[0].count == 0


async def test_a_client_without_a_certificate_gets_no_connection(
    tls_etcd: TlsEtcd, open_store: OpenStore
) -> None:
    store = open_store(tls_etcd.settings._replace(cert_file="", key_file=""))

    with pytest.raises(StoreUnavailable):
        await store.read([Get(b"k")])


@needs_real_time
async def test_a_store_reads_a_replaced_ca_file(tls_etcd: TlsEtcd, open_store: OpenStore) -> None:
    ca_file = Path(tls_etcd.settings.ca_file)
    trusted_ca = ca_file.read_bytes()
    trustme.CA().cert_pem.write_to_path(str(ca_file))  # an authority that the server does not use
    store = open_store(tls_etcd.settings)
    with pytest.raises(StoreUnavailable):
        await store.read([Get(b"k")])

    ca_file.unlink()
    with pytest.raises(StoreUnavailable):
        await store.read([Get(b"k")])
    ca_file.write_bytes(trusted_ca)

    assert (await store.read([Get(b"k")])).ranges[0].count == 0


async def test_a_server_with_an_untrusted_certificate_gets_no_write(
    tls_etcd: TlsEtcd, open_store: OpenStore, tmp_path: Path
) -> None:
    other_ca_file = tmp_path / "other.pem"
    trustme.CA().cert_pem.write_to_path(str(other_ca_file))
    store = open_store(tls_etcd.settings._replace(ca_file=str(other_ca_file)))

    with pytest.raises(StoreUnavailable):
        await store.commit([], [Put(b"k", b"v")])

    trusting_store = open_store(tls_etcd.settings)
    assert (await trusting_store.read([Get(b"k")])).ranges[0].count == 0


async def test_a_client_that_does_not_speak_tls_gets_no_connection(
    tls_etcd: TlsEtcd, open_store: OpenStore
) -> None:
    store = open_store(
        EtcdSettings(tls_etcd.cluster.endpoints, read_deadline_s=1.0, read_attempt_s=0.5)
    )

    with pytest.raises(StoreUnavailable):
        await store.read([Get(b"k")])


async def test_an_authority_without_the_key_usage_extension_is_accepted(
    open_store: OpenStore, tmp_path: Path
) -> None:
    authority = PlainAuthority(tmp_path)
    certificates = Certificates(authority.ca, authority.certificate, authority.key)
    ca_file, cert_file, key_file = map(str, certificates)
    with EtcdCluster(tmp_path, certificates=certificates) as cluster:
        settings = EtcdSettings(
            cluster.endpoints, ca_file=ca_file, cert_file=cert_file, key_file=key_file
        )

        assert (await open_store(settings).read([Get(b"k")])).ranges[0].count == 0
