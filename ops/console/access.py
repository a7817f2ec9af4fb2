"""Who may read the console: everybody, or the users of a Kubernetes cluster that a rule admits.

With token review, the API server says who the bearer of a token is (TokenReview) and whether this
user may get the path ``CONSOLE_PATH`` (SubjectAccessReview), as for metrics behind kube-rbac-proxy.
A positive answer is kept for ``KEPT_S``. No token is logged, stored or passed on.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from hashlib import sha256
from typing import Final, Protocol

from core.errors import AccessDenied, Unauthenticated
from core.kubernetes.api import Api

CONSOLE_PATH: Final = "/orbweaver/console"
"""The non-resource URL that a ClusterRole must allow to get."""

KEPT_S: Final = 60.0
TOKENS_KEPT_MAX: Final = 1_000
TOKEN_CHARS_MAX: Final = 16_384

_REVIEWS: Final = "/apis/authentication.k8s.io/v1/tokenreviews"
_ACCESS_REVIEWS: Final = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
_SCHEME: Final = "bearer "


class ConsoleAccess(Protocol):
    """Decides whether a request is answered."""

    async def check(self, headers: Mapping[str, str]) -> None:
        """Raises Unauthenticated, AccessDenied, ApiUnavailable."""
        ...


class OpenAccess:
    """Everybody who reaches the port."""

    async def check(self, headers: Mapping[str, str]) -> None:
        """Admit the request."""


class TokenAccess:
    """The users whom the API server knows and a rule admits."""

    def __init__(self, api: Api, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._api = api
        self._monotonic = monotonic
        self._admitted: OrderedDict[bytes, float] = OrderedDict()

    async def check(self, headers: Mapping[str, str]) -> None:
        """Admit the bearer of the token, or raise."""
        token = _token(headers.get("Authorization", ""))
        digest = sha256(token.encode()).digest()
        if self._admitted.get(digest, 0.0) > self._monotonic():
            return
        await self._review(token)
        self._admitted[digest] = self._monotonic() + KEPT_S
        self._admitted.move_to_end(digest)
        while len(self._admitted) > TOKENS_KEPT_MAX:
            self._admitted.popitem(last=False)

    async def _review(self, token: str) -> None:
        body = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenReview",
            "spec": {"token": token},
        }
        status = (await self._api.create(_REVIEWS, body)).get("status", {})
        if not status.get("authenticated"):
            raise _unauthenticated("the API server does not accept the token")
        user = status.get("user", {})
        spec = {
            "user": user.get("username", ""),
            "uid": user.get("uid", ""),
            "groups": user.get("groups", []),
            "extra": user.get("extra", {}),
            "nonResourceAttributes": {"path": CONSOLE_PATH, "verb": "get"},
        }
        body = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SubjectAccessReview",
            "spec": spec,
        }
        verdict = (await self._api.create(_ACCESS_REVIEWS, body)).get("status", {})
        if not verdict.get("allowed"):
            raise AccessDenied(
                f"user {spec['user']} may not read the console",
                subject=CONSOLE_PATH,
                remedy=f"bind a ClusterRole with the non-resource URL {CONSOLE_PATH} to the user",
            )


def _token(header: str) -> str:
    token = header[len(_SCHEME) :].strip() if header.lower().startswith(_SCHEME) else ""
    if not token or len(token) > TOKEN_CHARS_MAX:
        raise _unauthenticated("the request has no bearer token")
    return token


def _unauthenticated(message: str) -> Unauthenticated:
    return Unauthenticated(
        message,
        subject="Authorization",
        remedy="log in with a token: `kubectl create token NAME`, of a service account that may"
        f" get {CONSOLE_PATH}",
    )
