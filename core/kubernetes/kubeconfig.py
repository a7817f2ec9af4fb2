"""The address of an API server and the identity to use: from a kubeconfig, or of this Pod.

Reads files and sends nothing. A setting of a kubeconfig that is not supported is refused by name,
because ignoring it could use another identity than the configured one.
"""

from __future__ import annotations

import os
from base64 import b64decode
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import yaml

from core.kubernetes.tokens import (
    CredentialPlugin,
    FileToken,
    FixedToken,
    NoAccess,
    TokenSource,
    basic,
)

UNSUPPORTED: Final = {
    "auth-provider": "name an exec plugin instead, such as kubelogin",
    "as": "name a user of its own instead",
    "as-uid": "name a user of its own instead",
    "as-groups": "name a user of its own instead",
}
"""Fields of a user that are refused, and what helps."""

Section = Mapping[str, Any]


class Tls(NamedTuple):
    """How the server is verified, and the certificate that we show; all as PEM.

    ``authorities`` "": those of the system. ``server_name`` "": the host of the server.
    """

    authorities: str = ""
    certificate: bytes = b""
    key: bytes = b""
    is_verified: bool = True
    server_name: str = ""


class ClusterAccess(NamedTuple):
    """An API server and an identity. ``proxy`` "": that of the environment, if it names one."""

    server: str
    tls: Tls
    token: TokenSource
    proxy: str = ""


def read_kubeconfig(path: Path, context: str = "") -> ClusterAccess:
    """The access of a context, by default the current one. Raises NoAccess."""
    try:
        document = yaml.safe_load(path.read_bytes())
        if not isinstance(document, dict):
            raise NoAccess("it is not a mapping")
        chosen = context or document.get("current-context")
        if not chosen:
            raise NoAccess("it has no current context, and none was named")
        names = _entry(document, "contexts", "context", chosen)
        cluster = _entry(document, "clusters", "cluster", names.get("cluster"))
        named = names.get("user")
        user = _entry(document, "users", "user", named) if named else {}
        return _access(cluster, user, path.parent)
    except (OSError, ValueError, TypeError, yaml.YAMLError) as error:
        raise NoAccess(str(error)) from None


def read_service_account(
    directory: Path, environment: Mapping[str, str] = os.environ
) -> ClusterAccess:
    """The access of a Pod, of which ``directory`` has token and authority. Raises NoAccess."""
    host = environment.get("KUBERNETES_SERVICE_HOST")
    port = environment.get("KUBERNETES_SERVICE_PORT")
    if not host or not port:
        raise NoAccess("KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are not both set")
    try:
        authorities = _text(_read(directory / "ca.crt"))
    except OSError as error:
        raise NoAccess(str(error)) from None
    server = f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"
    return ClusterAccess(server, Tls(authorities), FileToken(directory / "token"))


def _access(cluster: Section, user: Section, directory: Path) -> ClusterAccess:
    server = str(cluster.get("server", "")).rstrip("/")
    if not server.startswith(("https://", "http://")):
        raise NoAccess(f"the cluster's server {server!r} is not a URL")
    for name, remedy in UNSUPPORTED.items():
        if name in user:
            raise NoAccess(f"the user has {name}, which is not supported: {remedy}")
    tls = Tls(
        _text(_pem(cluster, "certificate-authority", directory)),
        _pem(user, "client-certificate", directory),
        _pem(user, "client-key", directory),
        is_verified=not cluster.get("insecure-skip-tls-verify", False),
        server_name=cluster.get("tls-server-name", ""),
    )
    return ClusterAccess(server, tls, _token(user, directory), cluster.get("proxy-url", ""))


def _token(user: Section, directory: Path) -> TokenSource:
    if "exec" in user:
        return CredentialPlugin(user["exec"], directory)
    if "tokenFile" in user:
        return FileToken(directory / user["tokenFile"])
    if "token" in user:
        return FixedToken(f"Bearer {user['token']}")
    if "username" in user and "password" in user:
        return basic(user["username"], user["password"])
    return FixedToken()


def _entry(document: Section, collection: str, kind: str, name: object) -> Section:
    """One entry of a list of named ones."""
    for one in document.get(collection) or ():
        if isinstance(one, dict) and one.get("name") == name:
            found = one.get(kind) or {}
            if isinstance(found, dict):
                return found
    raise NoAccess(f"it has no {kind} {name!r}")


def _pem(section: Section, name: str, directory: Path) -> bytes:
    """The value of a field, or the content of its file; b"" without both."""
    if data := section.get(f"{name}-data"):
        return b64decode(data)
    return _read(directory / section[name]) if section.get(name) else b""


def _read(path: Path) -> bytes:
    content = path.read_bytes()
    if not content:
        raise NoAccess(f"{path} is empty")
    return content


def _text(pem: bytes) -> str:
    """Authorities as Python's TLS takes them: comments may have other letters, certificates not."""
    return pem.decode("ascii", "ignore")
