"""The client of an IaaS network provider."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
import trustme

from core.allocation.provider_settings import ProviderSettings, provider_settings
from core.domain.provider.provider_nics import NicConfiguration, parent_macs_of
from core.errors import BadInput, DeadlineExceeded, ProviderError, ProviderRefused
from tests.workflows.jobs.provider.fake_provider import FakeProvider, Fault
from workflows.jobs.provider.client import (
    ProviderAllocateRequest,
    ProviderClient,
    ProviderReleaseRequest,
    RequestedAddress,
)

ALLOCATE_REQUEST = ProviderAllocateRequest(
    pod_name="web",
    pod_namespace="shop",
    node_name="node-a",
    addresses=(RequestedAddress("10.6.0.9", "10.6.0.0/16", parent_nic_mac="m"),),
    pod_uid="u",
)
RELEASE_REQUEST = ProviderReleaseRequest(
    pod_name="web",
    pod_namespace="shop",
    node_name="node-a",
    subnet="10.6.0.0/16",
    ip_address="10.6.0.9",
)
NOW_S = 1_000.0


def client(settings: ProviderSettings) -> ProviderClient:
    return ProviderClient(settings, now_s=lambda: NOW_S)


async def test_an_untrusted_certificate_is_rejected_unless_the_settings_allow_it(
    tmp_path: Path,
) -> None:
    authority = trustme.CA()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(server)
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    async with FakeProvider(server) as provider:
        url = provider.url
        async with client(ProviderSettings(url)) as provider_client:
            with pytest.raises(ProviderError, match="certificate"):
                await provider_client.release(RELEASE_REQUEST)
        for settings in (
            ProviderSettings(url, ca_file=str(tmp_path / "ca.pem")),
            ProviderSettings(url, verify_tls=False),
        ):
            async with client(settings) as provider_client:
                await provider_client.release(RELEASE_REQUEST)

        assert len(provider.calls) == 2


async def test_a_rejection_and_an_unknown_outcome_raise_different_errors() -> None:
    async with (
        FakeProvider() as provider,
        client(ProviderSettings(provider.url, request_timeout_s=1.0)) as provider_client,
    ):
        provider.faults.extend([Fault.REFUSED, Fault.BROKEN, Fault.SILENT])
        with pytest.raises(ProviderRefused, match="409: no VLAN is left"):
            await provider_client.release(RELEASE_REQUEST)
        with pytest.raises(ProviderError, match="500"):
            await provider_client.release(RELEASE_REQUEST)
        with pytest.raises(ProviderError, match="provider-interaction timeout"):
            await provider_client.release(RELEASE_REQUEST)


async def test_a_refused_connection_is_a_provider_error() -> None:
    async with client(ProviderSettings("http://127.0.0.1:1")) as provider_client:
        with pytest.raises(ProviderError):
            await provider_client.release(RELEASE_REQUEST)


@pytest.mark.parametrize(
    ("remaining_s", "header"), [(48.0, "48000"), (49.9996, "50000"), (90.0, "50000")]
)
async def test_the_timeout_header_is_the_remaining_time_but_at_most_the_configured_timeout(
    remaining_s: float, header: str
) -> None:
    async with (
        FakeProvider() as provider,
        client(ProviderSettings(provider.url)) as provider_client,
    ):
        await provider_client.allocate(ALLOCATE_REQUEST, deadline_s=NOW_S + remaining_s)

        ((_, _, timeout_header),) = provider.calls
        assert timeout_header == header


async def test_no_request_is_sent_less_than_48_s_before_the_deadline() -> None:
    async with (
        FakeProvider() as provider,
        client(ProviderSettings(provider.url)) as provider_client,
    ):
        with pytest.raises(
            DeadlineExceeded, match="parent budget insufficient: too little time left"
        ):
            await provider_client.allocate(ALLOCATE_REQUEST, deadline_s=NOW_S + 47.9)

        assert not provider.calls


def test_an_empty_server_url_means_no_provider() -> None:
    assert provider_settings("", "nonsense") is None


def test_provider_settings_accept_a_trailing_slash_and_durations_in_go_syntax() -> None:
    plain = provider_settings("https://iaas.example:8443/", "")
    assert plain == ProviderSettings("https://iaas.example:8443", 50.0, verify_tls=True)
    for text, seconds in (("30s", 30), ("1m30s", 90), ("1.5m", 90), ("500ms", 0.5)):
        settings = provider_settings("http://iaas", text)
        assert settings is not None
        assert settings.request_timeout_s == pytest.approx(seconds)


@pytest.mark.parametrize(
    "url", ["iaas.example", "ftp://iaas", "http://", "http://iaas:99999", "http://me@iaas"]
)
def test_the_error_for_an_invalid_server_url_names_the_setting(url: str) -> None:
    with pytest.raises(BadInput) as raised:
        provider_settings(url, "50s")
    assert raised.value.subject == "iaasNetworkProvider.serverUrl"


@pytest.mark.parametrize("text", ["50", "0s", "100s", "2m", "-1s", "soon"])
def test_the_error_for_an_invalid_request_timeout_names_the_setting(text: str) -> None:
    with pytest.raises(BadInput) as raised:
        provider_settings("http://iaas", text)
    assert raised.value.subject == "iaasNetworkProvider.httpRequestTimeout"


def test_the_provider_binds_only_nics_with_a_vlan_network_in_mode_auto() -> None:
    nics = [
        NicConfiguration("eth0", "vlan", vlan_mode="auto", parent_mac="0c:01"),
        NicConfiguration("net1", "vlan", vlan_mode="manual", parent_mac="0c:02"),
        NicConfiguration("net2", "macvlan", vlan_mode="auto", parent_mac="0c:03"),
        NicConfiguration("net3"),
    ]
    assert parent_macs_of(nics) == {"eth0": "0c:01"}
    with pytest.raises(BadInput, match="net4"):
        parent_macs_of([NicConfiguration("net4", "vlan", vlan_mode="auto", parent_mac="")])
