"""The fields of etcd's messages (rpc.proto, kv.proto, auth.proto) that this package uses.

``_TABLE`` has each field's name, number and type; "*" marks a repeated field. Decoding skips other
fields. A test compares the table with generated stubs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

from core.protobuf import Table, message_classes


class ProtobufMessage(Protocol):
    """Any protobuf message."""

    def SerializeToString(self) -> bytes:  # noqa: N802  # protobuf's name
        ...


Request = ProtobufMessage | bytes
"""A message, or its wire format."""


class Header(Protocol):
    """The answer's header, with the store's revision."""

    revision: int


class KeyValueMessage(Protocol):
    """``mvccpb.KeyValue``."""

    key: bytes
    value: bytes
    create_revision: int
    mod_revision: int
    lease: int


class RangeResponse(Protocol):
    """A range read's answer."""

    header: Header
    kvs: Sequence[KeyValueMessage]
    count: int
    more: bool


class OperationResponse(Protocol):
    """The answer of one operation of a transaction; only range reads are used."""

    response_range: RangeResponse


class TxnResponse(Protocol):
    """A transaction's answer."""

    header: Header
    succeeded: bool
    responses: Sequence[OperationResponse]


class EventMessage(Protocol):
    """``mvccpb.Event``."""

    type: int
    kv: KeyValueMessage


class WatchResponse(Protocol):
    """A message of a watch stream."""

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


_TABLE: Final[Table] = {
    "ResponseHeader": {"revision": (3, "int64")},
    "KeyValue": {
        "key": (1, "bytes"),
        "create_revision": (2, "int64"),
        "mod_revision": (3, "int64"),
        "value": (5, "bytes"),
        "lease": (6, "int64"),
    },
    "Event": {"type": (1, "int32"), "kv": (2, "KeyValue")},
    "RangeRequest": {
        "key": (1, "bytes"),
        "range_end": (2, "bytes"),
        "limit": (3, "int64"),
        "revision": (4, "int64"),
        "sort_order": (5, "int32"),
        "sort_target": (6, "int32"),
        "keys_only": (8, "bool"),
        "count_only": (9, "bool"),
    },
    "RangeResponse": {
        "header": (1, "ResponseHeader"),
        "kvs": (2, "*KeyValue"),
        "more": (3, "bool"),
        "count": (4, "int64"),
    },
    "ResponseOp": {"response_range": (1, "RangeResponse")},
    "TxnResponse": {
        "header": (1, "ResponseHeader"),
        "succeeded": (2, "bool"),
        "responses": (3, "*ResponseOp"),
    },
    "CompactionRequest": {"revision": (1, "int64")},
    "WatchCreateRequest": {
        "key": (1, "bytes"),
        "range_end": (2, "bytes"),
        "start_revision": (3, "int64"),
    },
    "WatchProgressRequest": {},
    "WatchRequest": {
        "create_request": (1, "WatchCreateRequest"),
        "progress_request": (3, "WatchProgressRequest"),
    },
    "WatchResponse": {
        "header": (1, "ResponseHeader"),
        "watch_id": (2, "int64"),
        "created": (3, "bool"),
        "canceled": (4, "bool"),
        "compact_revision": (5, "int64"),
        "cancel_reason": (6, "string"),
        "events": (11, "*Event"),
    },
    "LeaseGrantRequest": {"TTL": (1, "int64"), "ID": (2, "int64")},
    "LeaseRevokeRequest": {"ID": (1, "int64")},
    "LeaseTimeToLiveRequest": {"ID": (1, "int64")},
    "LeaseTimeToLiveResponse": {"TTL": (3, "int64")},
    "LeaseKeepAliveRequest": {"ID": (1, "int64")},
    "LeaseKeepAliveResponse": {"TTL": (3, "int64")},
    "StatusRequest": {},
    "StatusResponse": {"errors": (8, "*string")},
    "AlarmRequest": {"action": (1, "int32"), "memberID": (2, "uint64"), "alarm": (3, "int32")},
    "AlarmMember": {"memberID": (1, "uint64"), "alarm": (2, "int32")},
    "AlarmResponse": {"alarms": (2, "*AlarmMember")},
    "DefragmentRequest": {},
    "AuthEnableRequest": {},
    "AuthenticateRequest": {"name": (1, "string"), "password": (2, "string")},
    "AuthenticateResponse": {"token": (2, "string")},
    "Permission": {"permType": (1, "int32"), "key": (2, "bytes"), "range_end": (3, "bytes")},
    "AuthUserAddRequest": {"name": (1, "string"), "password": (2, "string")},
    "AuthUserGrantRoleRequest": {"user": (1, "string"), "role": (2, "string")},
    "AuthRoleAddRequest": {"name": (1, "string")},
    "AuthRoleGetRequest": {"role": (1, "string")},
    "AuthRoleGetResponse": {"perm": (2, "*Permission")},
    "AuthRoleGrantPermissionRequest": {"name": (1, "string"), "perm": (2, "Permission")},
    "AuthRoleRevokePermissionRequest": {
        "role": (1, "string"),
        "key": (2, "string"),
        "range_end": (3, "string"),
    },
    "EmptyResponse": {},
}

CLASSES: Final = message_classes("etcdserverpb", _TABLE)


def decoder(message: str) -> Callable[[bytes], Any]:
    """The function that decodes this kind of message. The function raises DecodeError."""
    read: Callable[[bytes], Any] = CLASSES[message].FromString
    return read


# mypy does not check the keywords of these constructors; tests with a real etcd do.
AlarmRequest: Final[Any] = CLASSES["AlarmRequest"]
AuthEnableRequest: Final[Any] = CLASSES["AuthEnableRequest"]
AuthRoleAddRequest: Final[Any] = CLASSES["AuthRoleAddRequest"]
AuthRoleGetRequest: Final[Any] = CLASSES["AuthRoleGetRequest"]
AuthRoleGrantPermissionRequest: Final[Any] = CLASSES["AuthRoleGrantPermissionRequest"]
AuthRoleRevokePermissionRequest: Final[Any] = CLASSES["AuthRoleRevokePermissionRequest"]
AuthUserAddRequest: Final[Any] = CLASSES["AuthUserAddRequest"]
AuthUserGrantRoleRequest: Final[Any] = CLASSES["AuthUserGrantRoleRequest"]
AuthenticateRequest: Final[Any] = CLASSES["AuthenticateRequest"]
CompactionRequest: Final[Any] = CLASSES["CompactionRequest"]
DefragmentRequest: Final[Any] = CLASSES["DefragmentRequest"]
LeaseGrantRequest: Final[Any] = CLASSES["LeaseGrantRequest"]
LeaseKeepAliveRequest: Final[Any] = CLASSES["LeaseKeepAliveRequest"]
LeaseTimeToLiveRequest: Final[Any] = CLASSES["LeaseTimeToLiveRequest"]
LeaseRevokeRequest: Final[Any] = CLASSES["LeaseRevokeRequest"]
RangeRequest: Final[Any] = CLASSES["RangeRequest"]
StatusRequest: Final[Any] = CLASSES["StatusRequest"]
WatchCreateRequest: Final[Any] = CLASSES["WatchCreateRequest"]
WatchProgressRequest: Final[Any] = CLASSES["WatchProgressRequest"]
WatchRequest: Final[Any] = CLASSES["WatchRequest"]

# ``authpb.Permission.Type``
READ: Final = 0
READWRITE: Final = 2

ALARM_DEACTIVATE: Final = 2
ALARM_NOSPACE: Final = 1

SORT_ASCEND: Final = 1
SORT_MOD: Final = 3

EVENT_DELETE: Final = 1

PROGRESS_WATCH_ID: Final = -1
"""The watch id in a progress report for all watches."""
