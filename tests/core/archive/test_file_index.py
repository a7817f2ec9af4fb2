"""The index of an archive file returns all blocks whose events have a token.

The index stores hashes of tokens, such as ``pool blue``.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.archive import file_index as index_module
from core.archive.file_index import IndexBuilder, find_blocks, tokens_of
from core.audit.verify import verify
from core.domain.configuration.commands import ApplyReservation
from core.domain.events import PoolRetired
from core.domain.model import Reservation
from core.eventstore.memory_store import MemoryStore
from tests.core.archive.synthetic import Shape, fill
from tests.support.archived_cluster import TEST_KEYS, ArchivedCluster, Configure

_names = st.text("abc", min_size=1, max_size=3)


@given(st.lists(st.lists(_names, max_size=6), max_size=8), _names)
def test_every_block_with_a_token_is_found(blocks: list[list[str]], searched: str) -> None:
    builder = IndexBuilder()
    for block, names in enumerate(blocks):
        for name in names:
            builder.add(block, PoolRetired(name))
    blocks_found = find_blocks(memoryview(builder.finish()), f"pool {searched}")
    assert blocks_found == [block for block, names in enumerate(blocks) if searched in names]


def test_a_search_also_returns_blocks_of_other_tokens_with_the_same_hash(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(index_module, "token_key", lambda _: 1 << index_module.BLOCK_BITS)
    builder = IndexBuilder()
    builder.add(0, PoolRetired("one"))
    builder.add(3, PoolRetired("other"))
    assert find_blocks(memoryview(builder.finish()), "pool one") == [0, 3]


async def test_a_file_without_indexed_tokens_has_a_valid_index(
    archived_cluster: ArchivedCluster,
) -> None:
    await archived_cluster.seal()
    # An event of a reservation has no token.
    await archived_cluster.execute(
        [Configure(ApplyReservation(Reservation("dns", 4, ("10.6.0.1",))))]
    )
    await archived_cluster.seal()
    sealed = (await archived_cluster.view()).sealed
    assert sealed.index(sealed.cursor.last) is not None
    assert (await verify(archived_cluster.store, TEST_KEYS, archived_cluster.files)).is_clean


async def test_the_index_of_a_file_has_every_token_of_every_block(tmp_path: Path) -> None:
    store = MemoryStore()
    await fill(store, TEST_KEYS, Shape(3_000, per_segment=20, held=300))
    cluster = ArchivedCluster(store, tmp_path)
    await cluster.seal()
    sealed = (await cluster.view()).sealed
    link = sealed.cursor.last
    file, index = sealed.open(link), sealed.index(link)
    assert index is not None
    assert len(file.trailer.blocks) > 3
    for number in range(len(file.trailer.blocks)):
        tokens = {
            token
            for segment in file.segments(number)
            for recorded in segment.events()
            for token in tokens_of(recorded.event)
        }
        assert all(number in find_blocks(index, token) for token in tokens)
