"""Convert values of ``core.eventstore.kv`` to etcd's protobuf messages and back."""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter
from typing import Any

from core.errors import StoreRejected
from core.eventstore.etcd import messages
from core.eventstore.kv import (
    NO_READS,
    TXN_OPERATIONS_MAX,
    Get,
    KeyChange,
    KeyValue,
    RangeResult,
    TxnResult,
)

_fields_of = attrgetter(*KeyValue._fields)
_key_value = KeyValue._make


def check_operations(*lists: Sequence[object]) -> None:
    """Raise StoreRejected for more operations than etcd accepts."""
    longest = max(len(operations) for operations in lists)
    if longest > TXN_OPERATIONS_MAX:
        raise StoreRejected(
            f"a transaction has {longest} operations of one kind (comparisons, writes or reads);"
            f" etcd accepts {TXN_OPERATIONS_MAX}",
            remedy="report it as a bug of Orbweaver: it must split such a transaction",
        )


def range_request(get: Get, revision: int) -> messages.ProtobufMessage:
    """Revision 0 means the newest."""
    request = messages.RangeRequest(
        key=get.start,
        range_end=get.end,
        limit=get.limit,
        revision=revision,
        keys_only=get.keys_only,
        count_only=get.count_only,
    )
    if get.oldest_first:
        request.sort_target = messages.SORT_MOD
        request.sort_order = messages.SORT_ASCEND
    built: messages.ProtobufMessage = request
    return built


def txn_result(response: messages.TxnResponse, otherwise: Sequence[Get]) -> TxnResult:
    """``otherwise``: the reads of the failure branch."""
    if response.succeeded:
        return TxnResult(succeeded=True, revision=response.header.revision, reads=NO_READS)
    reads = dict(zip(otherwise, range_results(response), strict=True))
    return TxnResult(succeeded=False, revision=response.header.revision, reads=reads)


def range_results(response: messages.TxnResponse) -> tuple[RangeResult, ...]:
    """Convert the answers to all reads of a transaction."""
    return tuple([range_result(operation.response_range) for operation in response.responses])


def range_result(response: messages.RangeResponse) -> RangeResult:
    """Convert the answer to one read."""
    kvs = tuple([_key_value(_fields_of(kv)) for kv in response.kvs])
    return RangeResult(kvs, response.count, response.more)


def alarm_names(response: Any) -> tuple[str, ...]:
    """The alarms in a status response, which has texts such as "memberID:1 alarm:NOSPACE"."""
    names = (text.partition("alarm:")[2].strip() for text in response.errors)
    return tuple(sorted({name for name in names if name}))


def changes_after(response: messages.WatchResponse, revision: int) -> list[KeyChange]:
    """Changes newer than ``revision``."""
    changes = []
    for event in response.events:
        kv = event.kv
        if kv.mod_revision > revision:
            value = None if event.type == messages.EVENT_DELETE else kv.value
            changes.append(KeyChange(kv.key, value, kv.mod_revision))
    return changes
