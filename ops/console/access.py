"""Decides who may use the console: every client, the bearer of one token, or users of a cluster.

For users of a cluster, the API server authenticates the token (TokenReview) and authorizes the
user (SubjectAccessReview). No token is logged or stored.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from hashlib import sha256
from hmac import compare_digest
from typing import Final, Protocol

from core.errors import AccessDenied, Unauthenticated
from core.kubernetes.api_client import Api

CONSOLE_PATH: Final = "/orbweaver/console"
"""Users need a ClusterRole with the verb get on this non-resource URL."""

ACTIONS_PATH: Final = f"{CONSOLE_PATH}/workflows"
"""Signals and retries need the verb post on this non-resource URL."""

ACCEPTED_S: Final = 60.0
"""After this time, an accepted token is reviewed again."""

TOKENS_CACHED_MAX: Final = 1_000
"""Accepted tokens that are cached, as digests."""

TOKEN_CHARS_MAX: Final = 16_384

_REVIEWS: Final = "/apis/authentication.k8s.io/v1/tokenreviews"
_ACCESS_REVIEWS: Final = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
_SCHEME: Final = "bearer "


class ConsoleAccess(Protocol):
    """Authenticates and authorizes a request."""

    async def check(self, headers: Mapping[str, str]) -> str:
        """Return the user's name, "" if unknown. Raises Unauthenticated, AccessDenied."""
        ...


class OpenAccess:
    """Admits every request."""

    async def check(self, headers: Mapping[str, str]) -> str:
        """Admit the request."""
        return ""


class SecretAccess:
    """Admits the bearer of one token."""

    _REMEDY: Final = "log in with the token that `orbctl console` has printed"

    def __init__(self, token: str, user: str) -> None:
        self._token = token
        self._user = user

    async def check(self, headers: Mapping[str, str]) -> str:
        """Admit the bearer."""
        if not compare_digest(_token(headers, self._REMEDY), self._token):
            message = "this is not the token that `orbctl console` has printed"
            raise _unauthenticated(message, self._REMEDY)
        return self._user


class ReviewedAccess:
    """Admits users whom the API server authorizes for a path and a verb.

    ``check`` raises ApiUnavailable while the API server does not answer.
    """

    def __init__(
        self,
        api: Api,
        path: str = CONSOLE_PATH,
        verb: str = "get",
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._api = api
        self._path = path
        self._verb = verb
        self._remedy = (
            f"log in with the token of a service account that may {verb} {path}:"
            " `kubectl create token NAME`"
        )
        self._monotonic = monotonic
        # digest of the token -> (time of expiry, user)
        self._admitted: OrderedDict[bytes, tuple[float, str]] = OrderedDict()

    async def check(self, headers: Mapping[str, str]) -> str:
        """Admit the bearer."""
        token = _token(headers, self._remedy)
        digest = sha256(token.encode()).digest()
        expires, user = self._admitted.get(digest, (0.0, ""))
        if expires > self._monotonic():
            return user
        user = await self._review(token)
        self._admitted[digest] = self._monotonic() + ACCEPTED_S, user
        self._admitted.move_to_end(digest)
        while len(self._admitted) > TOKENS_CACHED_MAX:
            self._admitted.popitem(last=False)
        return user

    async def _review(self, token: str) -> str:
        body = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenReview",
            "spec": {"token": token},
        }
        status = (await self._api.create(_REVIEWS, body)).get("status", {})
        if not status.get("authenticated"):
            raise _unauthenticated("the API server does not accept the token", self._remedy)
        user = status.get("user", {})
        spec = {
            "user": user.get("username", ""),
            "uid": user.get("uid", ""),
            "groups": user.get("groups", []),
            "extra": user.get("extra", {}),
            "nonResourceAttributes": {"path": self._path, "verb": self._verb},
        }
        body = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SubjectAccessReview",
            "spec": spec,
        }
        verdict = (await self._api.create(_ACCESS_REVIEWS, body)).get("status", {})
        if not verdict.get("allowed"):
            raise AccessDenied(
                f"user {spec['user']} may not {self._verb} {self._path}",
                subject=self._path,
                remedy=f"bind to the user a ClusterRole that allows the verb {self._verb} on the"
                f" non-resource URL {self._path}",
            )
        return str(spec["user"])


def _token(headers: Mapping[str, str], remedy: str) -> str:
    header = headers.get("Authorization", "")
    token = header[len(_SCHEME) :].strip() if header.lower().startswith(_SCHEME) else ""
    if not token or len(token) > TOKEN_CHARS_MAX or not token.isascii():  # RFC 6750: ASCII
        raise _unauthenticated("the request has no bearer token", remedy)
    return token


def _unauthenticated(message: str, remedy: str) -> Unauthenticated:
    return Unauthenticated(message, subject="Authorization", remedy=remedy)
