"""Our values <-> etcd's protobuf messages.

Pure functions on the hot path: fields are set in place, because building a transaction of ten
operations from keyword arguments costs three times as much. It must never talk to anything.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter
from typing import Any

from core.errors import StoreRejected
from core.store.etcd import messages
from core.store.kv import (
    TXN_OPERATIONS_MAX,
    Absent,
    Change,
    Get,
    Guard,
    KeyValue,
    NothingNewer,
    Put,
    RangeResult,
    TxnResult,
    Unchanged,
    Write,
)

_fields = attrgetter(*KeyValue._fields)
_key_value = KeyValue._make


def check_operations(*lists: Sequence[object]) -> None:
    """Refuse more operations than etcd takes, before anything is built or sent."""
    longest = max(len(each) for each in lists)
    if longest > TXN_OPERATIONS_MAX:
        raise StoreRejected(
            f"{longest} operations in one list of a transaction",
            remedy=f"send at most {TXN_OPERATIONS_MAX} at a time",
        )


def txn_request(
    guards: Sequence[Guard], writes: Sequence[Write], otherwise: Sequence[Get]
) -> messages.Message:
    """The transaction: all guards, then the writes, or else the reads."""
    request = messages.TxnRequest()
    for guard in guards:
        _fill_compare(request.compare.add(), guard)
    for write in writes:
        _fill_write(request.success.add(), write)
    for get in otherwise:
        _fill_range(request.failure.add().request_range, get)
    built: messages.Message = request
    return built


def read_request(gets: Sequence[Get], revision: int) -> messages.Message:
    """One transaction of ranges, so that all of them are read at one revision."""
    request = messages.TxnRequest()
    for get in gets:
        operation = request.success.add().request_range
        _fill_range(operation, get)
        operation.revision = revision
    built: messages.Message = request
    return built


def range_request(get: Get, revision: int) -> messages.Message:
    """One range, at ``revision`` or with 0 at the newest."""
    request = messages.RangeRequest(revision=revision)
    _fill_range(request, get)
    built: messages.Message = request
    return built


def txn_result(response: messages.TxnResponse) -> TxnResult:
    """Answer of ``txn_request``."""
    reads = () if response.succeeded else range_results(response)
    return TxnResult(response.succeeded, response.header.revision, reads)


def range_results(response: messages.TxnResponse) -> tuple[RangeResult, ...]:
    """The ranges of a transaction's answer, in order."""
    return tuple([range_result(each.response_range) for each in response.responses])


def range_result(response: messages.RangeResponse) -> RangeResult:
    """Answer of one range."""
    kvs = tuple([_key_value(_fields(kv)) for kv in response.kvs])
    return RangeResult(kvs, response.count, response.more)


def alarm_names(response: Any) -> tuple[str, ...]:
    """The alarms in an answer about a member's status.

    The packaged stubs are older than the field. Asking for alarms themselves would go through the
    consensus, as a write does.
    """
    texts = [
        field.data.decode("utf-8", "replace")
        for field in messages.UnknownFieldSet(response)
        if field.field_number == messages.STATUS_ERRORS_FIELD
    ]
    found = (text.partition("alarm:")[2].strip() for text in texts)
    return tuple(sorted({name for name in found if name}))


def changes_after(response: messages.WatchResponse, revision: int) -> list[Change]:
    """The changes a watch message carries, without those already seen at ``revision``."""
    changes = []
    for event in response.events:
        kv = event.kv
        if kv.mod_revision > revision:
            value = None if event.type == messages.EVENT_DELETE else kv.value
            changes.append(Change(kv.key, value, kv.mod_revision))
    return changes


def _fill_compare(compare: Any, guard: Guard) -> None:
    match guard:
        case Absent(key):
            compare.key = key
            compare.target = messages.COMPARE_CREATE
            compare.create_revision = 0
        case Unchanged(key, mod_revision):
            compare.key = key
            compare.target = messages.COMPARE_MOD
            compare.mod_revision = mod_revision
        case NothingNewer(start, end, revision):
            # An empty range compares as one key of revision 0, so it holds there too.
            compare.key = start
            compare.range_end = end
            compare.target = messages.COMPARE_MOD
            compare.result = messages.COMPARE_LESS
            compare.mod_revision = revision + 1


def _fill_write(operation: Any, write: Write) -> None:
    if isinstance(write, Put):
        put = operation.request_put
        put.key = write.key
        put.value = write.value
        put.lease = write.lease
    else:
        delete = operation.request_delete_range
        delete.key = write.start
        delete.range_end = write.end


def _fill_range(request: Any, get: Get) -> None:
    request.key = get.start
    request.range_end = get.end
    request.limit = get.limit
    request.keys_only = get.keys_only
    request.count_only = get.count_only
    if get.oldest_first:
        request.sort_target = messages.SORT_MOD
        request.sort_order = messages.SORT_ASCEND
