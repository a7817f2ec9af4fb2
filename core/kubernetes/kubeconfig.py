"""Reads an API server's address and the identity to use, from a kubeconfig or this Pod.

An unsupported setting is an error: a process that ignores it could use another identity than
kubectl.
"""

from __future__ import annotations

import os
from base64 import b64decode
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import yaml

from core.kubernetes.credential_plugin import CredentialPlugin
from core.kubernetes.tokens import (
    FileToken,
    FixedHeader,
    NoAccess,
    TokenSource,
    basic_authorization,
)

_NO_IMPERSONATION: Final = "use the credentials of that user instead of impersonating it"
UNSUPPORTED: Final = {
    "auth-provider": "name an exec plugin instead, such as kubelogin",
    "as": _NO_IMPERSONATION,
    "as-uid": _NO_IMPERSONATION,
    "as-groups": _NO_IMPERSONATION,
}
"""Field of a user -> remedy."""

Section = Mapping[str, Any]


class Tls(NamedTuple):
    """The TLS settings; certificates and keys are PEM.

    ``authorities``: "" for those of the system. ``server_name``: "" for the host in the URL.
    """

    authorities: str = ""
    certificate: bytes = b""
    key: bytes = b""
    verifies_server: bool = True
    server_name: str = ""


class ClusterAccess(NamedTuple):
    """An API server and an identity. ``proxy``: "" for that of the environment."""

    server: str
    tls: Tls
    token: TokenSource
    proxy: str = ""


def read_kubeconfig(path: Path, context: str = "") -> ClusterAccess:
    """The server and identity of a context; "" means the current context. Raises NoAccess."""
    try:
        document = yaml.safe_load(path.read_bytes())
        if not isinstance(document, dict):
            raise NoAccess("the file is not a mapping")
        context = context or document.get("current-context") or ""
        if not context:
            raise NoAccess("the file has no current context, and no context was named")
        context_entry = _entry(document, "contexts", "context", context)
        cluster = _entry(document, "clusters", "cluster", context_entry.get("cluster"))
        user_name = context_entry.get("user")
        user = _entry(document, "users", "user", user_name) if user_name else {}
        return _access(cluster, user, path.parent)
    except (OSError, ValueError, TypeError, yaml.YAMLError) as error:
        raise NoAccess(str(error)) from None


def read_service_account(
    directory: Path, environment: Mapping[str, str] = os.environ
) -> ClusterAccess:
    """The server and identity of this Pod. Raises NoAccess."""
    host = environment.get("KUBERNETES_SERVICE_HOST")
    port = environment.get("KUBERNETES_SERVICE_PORT")
    if not host or not port:
        raise NoAccess("KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are not both set")
    try:
        authorities = _text(_read(directory / "ca.crt", "the service account's file"))
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
        verifies_server=not cluster.get("insecure-skip-tls-verify", False),
        server_name=cluster.get("tls-server-name", ""),
    )
    return ClusterAccess(server, tls, _token(user, directory), cluster.get("proxy-url", ""))


def _token(user: Section, directory: Path) -> TokenSource:
    if "exec" in user:
        return CredentialPlugin(user["exec"], directory)
    if "tokenFile" in user:
        return FileToken(directory / user["tokenFile"])
    if "token" in user:
        return FixedHeader(f"Bearer {user['token']}")
    if "username" in user and "password" in user:
        return basic_authorization(user["username"], user["password"])
    return FixedHeader()


def _entry(document: Section, collection: str, kind: str, name: object) -> Section:
    for entry in document.get(collection) or ():
        if isinstance(entry, dict) and entry.get("name") == name:
            section = entry.get(kind) or {}
            if isinstance(section, dict):
                return section
    raise NoAccess(f"the file has no {kind} {name!r}" if name else f"the context names no {kind}")


def _pem(section: Section, name: str, directory: Path) -> bytes:
    """The PEM data in the field NAME-data, else in the file of the field NAME, else b""."""
    if data := section.get(f"{name}-data"):
        try:
            return b64decode(data)
        except ValueError as error:
            raise NoAccess(f"{name}-data is not base64: {error}") from None
    if not section.get(name):
        return b""
    return _read(directory / section[name], f"the kubeconfig's {name} file")


def _read(path: Path, name: str) -> bytes:
    content = path.read_bytes()
    if not content:
        raise NoAccess(f"{name} {path} is empty")
    return content


def _text(pem: bytes) -> str:
    """Remove non-ASCII characters, which only comments have and Python's ssl refuses."""
    return pem.decode("ascii", "ignore")
