"""The typed face of the packaged protobuf stubs (``etcd3.etcdrpc``), which carry no types.

The one module that imports them. It names only the messages and fields we use; it must never hold
logic.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from etcd3 import etcdrpc as _rpc
from google.protobuf import unknown_fields as _unknown_fields


class ProtobufMessage(Protocol):
    """What every protobuf message can do."""

    def SerializeToString(self) -> bytes:  # noqa: N802  # protobuf's name
        """The wire format."""
        ...


Request = ProtobufMessage | bytes
"""A request, or the bytes of one."""


class Header(Protocol):
    """The store's state when it answered."""

    revision: int


class KeyValueMessage(Protocol):
    """``mvccpb.KeyValue``."""

    key: bytes
    value: bytes
    create_revision: int
    mod_revision: int
    lease: int


class RangeResponse(Protocol):
    """Answer of a range read."""

    header: Header
    kvs: Sequence[KeyValueMessage]
    count: int
    more: bool


class OperationResponse(Protocol):
    """Answer of one operation of a transaction; only ranges are looked at."""

    response_range: RangeResponse


class TxnResponse(Protocol):
    """Answer of a transaction."""

    header: Header
    succeeded: bool
    responses: Sequence[OperationResponse]


class EventMessage(Protocol):
    """``mvccpb.Event``."""

    type: int
    kv: KeyValueMessage


class WatchResponse(Protocol):
    """One message of a watch stream."""

    header: Header
    watch_id: int
    created: bool
    canceled: bool
    compact_revision: int
    cancel_reason: str
    events: Sequence[EventMessage]


class PermissionMessage(Protocol):
    """``authpb.Permission``."""

    permType: int  # noqa: N815  # protobuf's name
    key: bytes
    range_end: bytes


# Constructors take fields as keywords; the contract suite checks what is built, not the types.
AuthEnableRequest: Any = _rpc.AuthEnableRequest
AuthRoleAddRequest: Any = _rpc.AuthRoleAddRequest
AuthRoleGetRequest: Any = _rpc.AuthRoleGetRequest
AuthRoleGrantPermissionRequest: Any = _rpc.AuthRoleGrantPermissionRequest
AuthRoleRevokePermissionRequest: Any = _rpc.AuthRoleRevokePermissionRequest
AuthUserAddRequest: Any = _rpc.AuthUserAddRequest
AuthUserGrantRoleRequest: Any = _rpc.AuthUserGrantRoleRequest
AuthenticateRequest: Any = _rpc.AuthenticateRequest
CompactionRequest: Any = _rpc.CompactionRequest
LeaseGrantRequest: Any = _rpc.LeaseGrantRequest
LeaseKeepAliveRequest: Any = _rpc.LeaseKeepAliveRequest
LeaseRevokeRequest: Any = _rpc.LeaseRevokeRequest
RangeRequest: Any = _rpc.RangeRequest
StatusRequest: Any = _rpc.StatusRequest
WatchCreateRequest: Any = _rpc.WatchCreateRequest
WatchProgressRequest: Any = _rpc.WatchProgressRequest
WatchRequest: Any = _rpc.WatchRequest

AlarmRequest: Any = _rpc.AlarmRequest
DefragmentRequest: Any = _rpc.DefragmentRequest

AuthStub: Any = _rpc.AuthStub
KVStub: Any = _rpc.KVStub
LeaseStub: Any = _rpc.LeaseStub
MaintenanceStub: Any = _rpc.MaintenanceStub
WatchStub: Any = _rpc.WatchStub

TXN_METHOD = "/etcdserverpb.KV/Txn"
"""Its requests are encoded here (``txn_encoder``), so that the stub's serializer is not used."""
decode_txn_response: Callable[[bytes], Any] = _rpc.TxnResponse.FromString

READ = 0
READWRITE = 2
"""``authpb.Permission`` types; the package does not export the enumeration."""
UnknownFieldSet: Any = _unknown_fields.UnknownFieldSet
"""The fields of a message that the packaged stubs, which are older than etcd, do not know."""

STATUS_ERRORS_FIELD: int = 8
"""``errors`` of etcd's StatusResponse (rpc.proto): "memberID:… alarm:NOSPACE" among them."""

ALARM_DEACTIVATE: int = _rpc.AlarmRequest.DEACTIVATE
ALARM_NOSPACE: int = _rpc.NOSPACE

SORT_ASCEND: int = _rpc.RangeRequest.ASCEND
SORT_MOD: int = _rpc.RangeRequest.MOD
EVENT_DELETE = 1
"""``mvccpb.Event.DELETE``; the package does not export the enumeration."""
PROGRESS_WATCH_ID = -1
"""The watch id of an answer that speaks for every watch of its stream."""
