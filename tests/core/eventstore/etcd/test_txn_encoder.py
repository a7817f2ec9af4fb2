"""Our encoder and the package etcd3 encode a transaction to the same bytes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from etcd3 import etcdrpc
from hypothesis import given
from hypothesis import strategies as st

from core.eventstore.etcd.txn_encoder import encode_reads, encode_txn
from core.eventstore.kv import Absent, Delete, Get, Guard, NothingNewer, Put, Unchanged, Write

NUMBER_MAX = (1 << 63) - 1

names = st.binary(min_size=1, max_size=300)
ends = st.binary(max_size=300)
numbers = st.integers(0, NUMBER_MAX)
flags = st.booleans()

guards = st.one_of(
    st.builds(Absent, names),
    st.builds(Unchanged, names, mod_revision=numbers),
    st.builds(NothingNewer, names, names, st.integers(0, NUMBER_MAX - 1)),
)
writes = st.one_of(
    st.builds(Put, names, st.binary(max_size=20_000), lease=numbers),
    st.builds(Delete, names, ends),
)
gets = st.builds(
    Get, names, ends, limit=numbers, keys_only=flags, count_only=flags, oldest_first=flags
)


@given(st.lists(guards, max_size=6), st.lists(writes, max_size=6), st.lists(gets, max_size=6))
def test_a_transaction_is_encoded_as_by_etcd3(
    guards: list[Guard], writes: list[Write], otherwise: list[Get]
) -> None:
    assert encode_txn(guards, writes, otherwise) == _encoded_by_etcd3(guards, writes, otherwise)


@given(st.lists(gets, max_size=6), numbers)
def test_reads_at_one_revision_are_encoded_as_by_etcd3(gets: list[Get], revision: int) -> None:
    request = etcdrpc.TxnRequest()
    for get in gets:
        operation = request.success.add().request_range
        _fill_range(operation, get)
        operation.revision = revision
    assert encode_reads(gets, revision) == request.SerializeToString()


@pytest.mark.parametrize("size", [126, 127, 128, 16_383, 16_384])
def test_lengths_at_varint_bounds_are_encoded_as_by_etcd3(size: int) -> None:
    guards: list[Guard] = [Absent(b"k" * size), Unchanged(b"k" * size, size)]
    writes: list[Write] = [Put(b"k", b"v" * size), Delete(b"k" * size)]
    assert encode_txn(guards, writes, []) == _encoded_by_etcd3(guards, writes, [])


def _encoded_by_etcd3(
    guards: Sequence[Guard], writes: Sequence[Write], otherwise: Sequence[Get]
) -> bytes:
    request = etcdrpc.TxnRequest()
    for guard in guards:
        _fill_compare(request.compare.add(), guard)
    for write in writes:
        _fill_write(request.success.add(), write)
    for get in otherwise:
        _fill_range(request.failure.add().request_range, get)
    encoded: bytes = request.SerializeToString()
    return encoded


def _fill_compare(compare: Any, guard: Guard) -> None:
    match guard:
        case Absent(key):
            compare.key = key
            compare.target = etcdrpc.Compare.CREATE
            compare.create_revision = 0
        case Unchanged(key, mod_revision):
            compare.key = key
            compare.target = etcdrpc.Compare.MOD
            compare.mod_revision = mod_revision
        case NothingNewer(start, end, revision):
            compare.key = start
            compare.range_end = end
            compare.target = etcdrpc.Compare.MOD
            compare.result = etcdrpc.Compare.LESS
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
        request.sort_target = etcdrpc.RangeRequest.MOD
        request.sort_order = etcdrpc.RangeRequest.ASCEND
