"""The typed face of the packaged protobuf stubs (``etcd3.etcdrpc``), which carry no types.

The one module that imports them. It names only the messages and fields we use; it must never hold
logic.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from etcd3 import etcdrpc as _rpc


class Message(Protocol):
    """What every protobuf message can do."""

    def SerializeToString(self) -> bytes: ...  # noqa: N802  # protobuf's name


class Header(Protocol):
    """The store's state when it answered."""

    @property
    def revision(self) -> int: ...


class KeyValueMessage(Protocol):
    """``mvccpb.KeyValue``."""

    @property
    def key(self) -> bytes: ...
    @property
    def value(self) -> bytes: ...
    @property
    def create_revision(self) -> int: ...
    @property
    def mod_revision(self) -> int: ...
    @property
    def lease(self) -> int: ...


class RangeResponse(Protocol):
    """Answer of a range read."""

    @property
    def header(self) -> Header: ...
    @property
    def kvs(self) -> Sequence[KeyValueMessage]: ...
    @property
    def count(self) -> int: ...
    @property
    def more(self) -> bool: ...


class OperationResponse(Protocol):
    """Answer of one operation of a transaction; only ranges are looked at."""

    @property
    def response_range(self) -> RangeResponse: ...


class TxnResponse(Protocol):
    """Answer of a transaction."""

    @property
    def header(self) -> Header: ...
    @property
    def succeeded(self) -> bool: ...
    @property
    def responses(self) -> Sequence[OperationResponse]: ...


class EventMessage(Protocol):
    """``mvccpb.Event``."""

    @property
    def type(self) -> int: ...
    @property
    def kv(self) -> KeyValueMessage: ...


class WatchResponse(Protocol):
    """One message of a watch stream."""

    @property
    def header(self) -> Header: ...
    @property
    def watch_id(self) -> int: ...
    @property
    def created(self) -> bool: ...
    @property
    def canceled(self) -> bool: ...
    @property
    def compact_revision(self) -> int: ...
    @property
    def cancel_reason(self) -> str: ...
    @property
    def events(self) -> Sequence[EventMessage]: ...


# Constructors take fields as keywords; the contract suite checks what is built, not the types.
AuthenticateRequest: Any = _rpc.AuthenticateRequest
CompactionRequest: Any = _rpc.CompactionRequest
LeaseGrantRequest: Any = _rpc.LeaseGrantRequest
LeaseKeepAliveRequest: Any = _rpc.LeaseKeepAliveRequest
LeaseRevokeRequest: Any = _rpc.LeaseRevokeRequest
RangeRequest: Any = _rpc.RangeRequest
TxnRequest: Any = _rpc.TxnRequest
WatchCreateRequest: Any = _rpc.WatchCreateRequest
WatchProgressRequest: Any = _rpc.WatchProgressRequest
WatchRequest: Any = _rpc.WatchRequest

AuthStub: Any = _rpc.AuthStub
KVStub: Any = _rpc.KVStub
LeaseStub: Any = _rpc.LeaseStub
WatchStub: Any = _rpc.WatchStub

COMPARE_EQUAL: int = _rpc.Compare.EQUAL
COMPARE_LESS: int = _rpc.Compare.LESS
COMPARE_CREATE: int = _rpc.Compare.CREATE
COMPARE_MOD: int = _rpc.Compare.MOD
EVENT_DELETE = 1
"""``mvccpb.Event.DELETE``; the package does not export the enumeration."""
PROGRESS_WATCH_ID = -1
"""The watch id of an answer that speaks for every watch of its stream."""
