"""Authentication at an API server: kubeconfigs, plugins and service accounts."""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pytest
import trustme
import yaml
from aiohttp import web

from core.errors import ApiUnavailable, BadInput
from core.kubernetes import api_client, credential_plugin, credentials, tokens
from core.kubernetes.api_client import Api
from core.kubernetes.http_connection import open_connection
from core.kubernetes.kubeconfig import read_service_account
from tests.support.deadlines import until

EXEC_API_VERSION: Final = "client.authentication.k8s.io/v1"

EXPIRE_FIRST_STATUS: Final = timedelta(seconds=5_400)
"""With this ``EXPIRES_EARLY``, a status of 3,600 s has expired, and one of 7,200 s has not."""


class RecordingServer:
    """A server that records the Authorization headers and client certificates of its requests."""

    def __init__(self) -> None:
        self.url = ""
        self.authorizations: list[str] = []
        self.client_names: list[str] = []

    async def answer(self, request: web.Request) -> web.Response:
        self.authorizations.append(request.headers.get("Authorization", ""))
        assert request.transport is not None
        certificate = request.transport.get_extra_info("peercert") or {}
        self.client_names += [name for _, name in certificate.get("subjectAltName", ())]
        return web.Response() if "watch" in request.query else web.json_response({})


@asynccontextmanager
async def serving(context: ssl.SSLContext | None = None) -> AsyncIterator[RecordingServer]:
    server, app = RecordingServer(), web.Application()
    app.router.add_get("/{path:.*}", server.answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    scheme = "http" if context is None else "https"
    server.url = f"{scheme}://127.0.0.1:{runner.addresses[0][1]}"
    yield server
    await runner.cleanup()


@pytest.fixture
async def server() -> AsyncIterator[RecordingServer]:
    async with serving() as server:
        yield server


def write_kubeconfig(directory: Path, server: str, user: Any, **cluster: Any) -> str:
    """Write a kubeconfig, whose context ``as-other`` has the token ``other``; return its path."""
    path = directory / "kubeconfig"
    document = {
        "clusters": [{"name": "here", "cluster": {"server": server, **cluster}}],
        "users": [{"name": "me", "user": user}, {"name": "other", "user": {"token": "other"}}],
        "contexts": [
            {"name": "here", "context": {"cluster": "here", "user": "me"}},
            {"name": "as-other", "context": {"cluster": "here", "user": "other"}},
        ],
        "current-context": "here",
    }
    path.write_text(yaml.safe_dump(document))
    return str(path)


def write_plugin(
    directory: Path, *statuses: dict[str, Any], exit_code: int = 0, pause_s: float = 0
) -> dict[str, Any]:
    """Write a credential plugin; return the ``exec`` entry for a user of a kubeconfig.

    Each run of the plugin waits ``pause_s``, and prints the next of ``statuses``; later runs repeat
    the last status. The file ``runs`` gets a line at the start of each run.
    """
    (directory / "statuses").write_text(json.dumps(statuses))
    script = directory / "plugin"
    script.write_text(
        f"#!{sys.executable}\n"
        "import json, os, pathlib, sys, time\n"
        "here = pathlib.Path(__file__).parent\n"
        "with (here / 'runs').open('a') as runs:\n"
        "    runs.write('run\\n')\n"
        f"time.sleep({pause_s})\n"
        "info = json.loads(os.environ['KUBERNETES_EXEC_INFO'])\n"
        "assert not info['spec']['interactive'] and os.environ['ARGUMENT'] == sys.argv[1]\n"
        "first, *others = json.loads((here / 'statuses').read_text())\n"
        "(here / 'statuses').write_text(json.dumps(others or [first]))\n"
        "print(json.dumps({'apiVersion': info['apiVersion'], 'kind': 'ExecCredential',"
        " 'status': first}))\n"
        "print('not today', file=sys.stderr)\n"
        f"sys.exit({exit_code})\n"
    )
    script.chmod(0o700)
    variables = [{"name": "ARGUMENT", "value": "plain"}]
    return {
        "apiVersion": EXEC_API_VERSION,
        "command": "./plugin",
        "args": ["plain"],
        "env": variables,
    }


def timestamp_in(seconds: float) -> str:
    return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()


def two_tokens() -> list[dict[str, Any]]:
    """Two statuses of a plugin; with ``EXPIRE_FIRST_STATUS``, the first has expired."""
    return [
        {"token": "first", "expirationTimestamp": timestamp_in(3_600)},
        {"token": "second", "expirationTimestamp": timestamp_in(7_200)},
    ]


async def send_requests(config: str, context: str = "", times: int = 1) -> None:
    api = Api(await open_connection(config, context))
    try:
        for _ in range(times):
            await api.get("/api")
    finally:
        await api.close()


@pytest.mark.parametrize(
    ("user", "sent"),
    [
        ({}, ""),
        ({"token": "secret"}, "Bearer secret"),
        ({"username": "ada", "password": "secret"}, "Basic YWRhOnNlY3JldA=="),
    ],
)
async def test_a_request_carries_the_credentials_of_the_kubeconfig(
    server: RecordingServer, tmp_path: Path, user: Any, sent: str
) -> None:
    await send_requests(write_kubeconfig(tmp_path, server.url, user))

    assert server.authorizations == [sent]


async def test_a_named_context_overrides_the_current_context(
    server: RecordingServer, tmp_path: Path
) -> None:
    await send_requests(write_kubeconfig(tmp_path, server.url, {"token": "secret"}), "as-other")

    assert server.authorizations == ["Bearer other"]


async def test_a_token_file_is_read_again_and_its_last_token_outlives_the_file(
    server: RecordingServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokens, "TOKEN_FILE_S", 0.0)  # read the file before each request
    file = tmp_path / "token"
    file.write_text("first\n")
    api = Api(await open_connection(write_kubeconfig(tmp_path, server.url, {"tokenFile": "token"})))

    await api.get("/api")
    file.write_text("second\n")
    await api.get("/api")
    file.unlink()
    await api.get("/api")

    await api.close()
    assert server.authorizations == ["Bearer first", "Bearer second", "Bearer second"]


async def test_a_credential_plugin_runs_again_when_its_token_has_expired(
    server: RecordingServer, tmp_path: Path
) -> None:
    statuses = [
        {"token": "first", "expirationTimestamp": timestamp_in(-1)},
        {"token": "second", "expirationTimestamp": timestamp_in(3_600)},
        {"token": "third"},
    ]
    user = {"exec": write_plugin(tmp_path, *statuses)}

    await send_requests(write_kubeconfig(tmp_path, server.url, user), times=2)

    # The first token has expired before the first request, so the plugin runs twice.
    assert server.authorizations == ["Bearer second", "Bearer second"]


async def test_a_request_fails_when_its_credential_plugin_cannot_run_again(
    server: RecordingServer, tmp_path: Path
) -> None:
    user = {
        "exec": write_plugin(tmp_path, {"token": "first", "expirationTimestamp": timestamp_in(-1)})
    }
    api = Api(await open_connection(write_kubeconfig(tmp_path, server.url, user)))
    (tmp_path / "plugin").unlink()

    with pytest.raises(ApiUnavailable, match="cannot be started"):
        await api.get("/api")

    await api.close()


async def test_a_credential_plugin_may_take_longer_than_the_opening_of_a_watch(
    server: RecordingServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api_client, "WATCH_OPEN_S_MAX", 1.0)
    user = {"exec": write_plugin(tmp_path, *two_tokens(), pause_s=1.5)}
    api = Api(await open_connection(write_kubeconfig(tmp_path, server.url, user)))
    monkeypatch.setattr(credential_plugin, "EXPIRES_EARLY", EXPIRE_FIRST_STATUS)

    assert [event async for event in api.watch("/api/v1/pods", "1")] == []

    await api.close()
    assert server.authorizations == ["Bearer second"]


async def test_the_answer_of_a_credential_plugin_is_kept_if_the_request_that_ran_it_is_cancelled(
    server: RecordingServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    user = {"exec": write_plugin(tmp_path, *two_tokens(), pause_s=0.5)}
    api = Api(await open_connection(write_kubeconfig(tmp_path, server.url, user)))
    monkeypatch.setattr(credential_plugin, "EXPIRES_EARLY", EXPIRE_FIRST_STATUS)
    runs = tmp_path / "runs"

    cancelled = asyncio.ensure_future(api.get("/api"))
    await until(lambda: runs.read_text().count("run") == 2)
    cancelled.cancel()
    await asyncio.wait([cancelled])
    await api.get("/api")

    await api.close()
    assert server.authorizations == ["Bearer second"]
    assert runs.read_text().count("run") == 2


async def test_a_request_uses_the_new_certificate_after_the_old_one_has_expired(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = trustme.CA()
    statuses = [
        certificate_status(authority, name) | {"expirationTimestamp": timestamp_in(expires_s)}
        for name, expires_s in (("first@shop.example", 3_600), ("second@shop.example", 7_200))
    ]
    ca = {"certificate-authority-data": base64.b64encode(authority.cert_pem.bytes()).decode()}
    user = {"exec": write_plugin(tmp_path, *statuses)}

    async with serving(verifying_clients(authority)) as server:
        api = Api(await open_connection(write_kubeconfig(tmp_path, server.url, user, **ca)))
        await api.get("/api")
        monkeypatch.setattr(credential_plugin, "EXPIRES_EARLY", EXPIRE_FIRST_STATUS)
        await api.get("/api")
        await api.close()

    assert server.client_names == ["first@shop.example", "second@shop.example"]


async def test_a_request_fails_when_the_new_certificate_of_its_plugin_cannot_be_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = trustme.CA()
    status = certificate_status(authority, "ada@shop.example")
    unusable = status | {"clientKeyData": "nonsense"}
    user = {
        "exec": write_plugin(
            tmp_path, status | {"expirationTimestamp": timestamp_in(3_600)}, unusable
        )
    }
    api = Api(await open_connection(write_kubeconfig(tmp_path, "https://127.0.0.1:1", user)))
    monkeypatch.setattr(credential_plugin, "EXPIRES_EARLY", EXPIRE_FIRST_STATUS)

    with pytest.raises(ApiUnavailable, match=r"a certificate or key for .* cannot be used"):
        await api.get("/api")

    await api.close()


def certificate_status(authority: trustme.CA, name: str) -> dict[str, Any]:
    """A plugin's status with a new client certificate."""
    issued = authority.issue_cert(name)
    return {
        "clientCertificateData": issued.cert_chain_pems[0].bytes().decode(),
        "clientKeyData": issued.private_key_pem.bytes().decode(),
    }


def verifying_clients(authority: trustme.CA) -> ssl.SSLContext:
    """A server's context that requires a client certificate of the authority."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED
    return context


@pytest.mark.parametrize("source", ["data", "file", "plugin"])
async def test_a_client_certificate_needs_no_temporary_file_for_its_key(
    tmp_path: Path, source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = trustme.CA()
    issued = authority.issue_cert("ada@shop.example")
    pems = issued.cert_chain_pems[0].bytes(), issued.private_key_pem.bytes()
    encoded = [base64.b64encode(pem).decode() for pem in pems]
    (tmp_path / "crt").write_bytes(pems[0])
    (tmp_path / "key").write_bytes(pems[1])
    texts = [pem.decode() for pem in pems]
    printed_status = dict(zip(("clientCertificateData", "clientKeyData"), texts, strict=True))
    user = {
        "data": {"client-certificate-data": encoded[0], "client-key-data": encoded[1]},
        "file": {"client-certificate": "crt", "client-key": "key"},
        "plugin": {"exec": write_plugin(tmp_path, printed_status)},
    }[source]
    ca = base64.b64encode(authority.cert_pem.bytes()).decode()
    context = verifying_clients(authority)
    monkeypatch.setattr("tempfile.tempdir", "/nowhere")  # a temporary file cannot be created

    async with serving(context) as server:
        config = write_kubeconfig(tmp_path, server.url, user, **{"certificate-authority-data": ca})
        await send_requests(config)

    assert server.authorizations == [""]  # one request, without a token


async def test_the_servers_certificate_is_verified_unless_the_kubeconfig_disables_it(
    tmp_path: Path,
) -> None:
    authority = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("elsewhere.example").configure_cert(context)
    ca = base64.b64encode(authority.cert_pem.bytes()).decode()

    async with serving(context) as server:
        trusted_ca = {"certificate-authority-data": ca}
        with pytest.raises(ApiUnavailable, match="certificate"):
            await send_requests(write_kubeconfig(tmp_path, server.url, {}, **trusted_ca))
        with_server_name = trusted_ca | {"tls-server-name": "elsewhere.example"}
        await send_requests(write_kubeconfig(tmp_path, server.url, {}, **with_server_name))
        await send_requests(
            write_kubeconfig(tmp_path, server.url, {}, **{"insecure-skip-tls-verify": True})
        )

    assert len(server.authorizations) == 2


@pytest.mark.parametrize(
    ("user", "why"),
    [
        ({"auth-provider": {"name": "oidc"}}, "auth-provider, which is not supported"),
        ({"token": "secret", "as": "root"}, "as, which is not supported"),
        ({"tokenFile": "missing"}, "No such file"),
        ({"client-certificate": "missing"}, "No such file"),
        ({"client-certificate-data": "bm9uc2Vuc2U="}, "a certificate or key for .* cannot be used"),
        ({"exec": {"command": "plugin"}}, "no 'apiVersion'"),
        ({"exec": {"command": "x", "apiVersion": "v1", "env": [{"value": "y"}]}}, "no 'name'"),
        ({"exec": {"command": "./missing", "apiVersion": EXEC_API_VERSION}}, "cannot be started"),
        ("nonsense", "has no user 'me'"),
    ],
)
async def test_an_unusable_kubeconfig_user_is_refused_with_the_reason(
    tmp_path: Path, user: Any, why: str
) -> None:
    with pytest.raises(BadInput, match=why) as refused:
        await open_connection(write_kubeconfig(tmp_path, "https://api.example", user))

    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{", "{}", "current-context: here", "{current-context: here, contexts: [1]}"],
)
async def test_a_kubeconfig_that_cannot_be_read_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "kubeconfig"
    path.write_text(text)

    with pytest.raises(BadInput, match="cannot use the credentials of"):
        await open_connection(str(path))


async def test_the_error_of_a_failed_credential_plugin_quotes_its_output(tmp_path: Path) -> None:
    user = {"exec": write_plugin(tmp_path, {"token": "secret"}, exit_code=3)}

    with pytest.raises(BadInput, match="exited with code 3: not today") as refused:
        await open_connection(write_kubeconfig(tmp_path, "https://api.example", user))

    assert "secret" not in str(refused.value)


async def test_a_credential_plugin_that_takes_too_long_is_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(credential_plugin, "PLUGIN_S_MAX", 0.1)
    endless = {"command": "sleep", "args": ["1000"], "apiVersion": EXEC_API_VERSION}

    with pytest.raises(BadInput, match=r"took longer than 0\.1 s"):
        await open_connection(write_kubeconfig(tmp_path, "https://api.example", {"exec": endless}))


async def test_a_pod_connects_with_its_service_account(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("from-kubelet")
    (tmp_path / "ca.crt").write_text("an authority")
    variables = {"KUBERNETES_SERVICE_HOST": "2001:db8::1", "KUBERNETES_SERVICE_PORT": "443"}

    access = read_service_account(tmp_path, variables)

    assert access.server == "https://[2001:db8::1]:443"
    assert access.tls.authorities == "an authority"
    assert await access.token.authorization() == "Bearer from-kubelet"


@pytest.mark.parametrize("missing", ["ca.crt", "token"])
async def test_a_pod_without_a_file_of_its_service_account_cannot_connect(
    tmp_path: Path, missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in {"token", "ca.crt"} - {missing}:
        (tmp_path / name).write_text("text")
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    monkeypatch.setattr(credentials, "SERVICE_ACCOUNT", tmp_path)

    with pytest.raises(BadInput, match="credentials of this Pod's service account"):
        await open_connection("")


async def test_a_process_outside_a_pod_cannot_connect_without_a_kubeconfig(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)

    with pytest.raises(BadInput, match="KUBERNETES_SERVICE_HOST"):
        await open_connection("")
