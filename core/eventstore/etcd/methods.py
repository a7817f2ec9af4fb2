"""The path and the answer message of each method of etcd (rpc.proto)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, Literal, NamedTuple

from core.eventstore.etcd import messages

Method = Literal[
    "txn",
    "range",
    "compact",
    "grant",
    "keep",
    "time_to_live",
    "revoke",
    "authenticate",
    "status",
    "alarm",
    "defragment",
    "auth_enable",
    "role_add",
    "role_get",
    "role_grant",
    "role_revoke",
    "user_add",
    "user_grant",
]

WATCH_PATH: Final = "/etcdserverpb.Watch/Watch"
KEEP_ALIVE_PATH: Final = "/etcdserverpb.Lease/LeaseKeepAlive"


class UnaryMethod(NamedTuple):
    """A method with one request and one answer."""

    path: str
    decode: Callable[[bytes], Any]


def _method(name: str, answer: str = "EmptyResponse") -> UnaryMethod:
    return UnaryMethod(f"/etcdserverpb.{name}", messages.decoder(answer))


UNARY_METHODS: Final[Mapping[Method, UnaryMethod]] = {
    "txn": _method("KV/Txn", "TxnResponse"),
    "range": _method("KV/Range", "RangeResponse"),
    "compact": _method("KV/Compact"),
    "grant": _method("Lease/LeaseGrant"),
    "time_to_live": _method("Lease/LeaseTimeToLive", "LeaseTimeToLiveResponse"),
    "revoke": _method("Lease/LeaseRevoke"),
    "authenticate": _method("Auth/Authenticate", "AuthenticateResponse"),
    "status": _method("Maintenance/Status", "StatusResponse"),
    "alarm": _method("Maintenance/Alarm", "AlarmResponse"),
    "defragment": _method("Maintenance/Defragment"),
    "auth_enable": _method("Auth/AuthEnable"),
    "role_add": _method("Auth/RoleAdd"),
    "role_get": _method("Auth/RoleGet", "AuthRoleGetResponse"),
    "role_grant": _method("Auth/RoleGrantPermission"),
    "role_revoke": _method("Auth/RoleRevokePermission"),
    "user_add": _method("Auth/UserAdd"),
    "user_grant": _method("Auth/UserGrantRole"),
}
"""All methods except "keep", which is a stream (``KEEP_ALIVE_PATH``)."""

METHOD_NAMES: Final[Mapping[Method, str]] = {
    **{method: unary.path.rpartition("/")[2] for method, unary in UNARY_METHODS.items()},
    "keep": KEEP_ALIVE_PATH.rpartition("/")[2],
}
"""etcd's own names."""
