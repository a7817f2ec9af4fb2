"""The format of an archive file: segments of all writers in log order, in blocks.

A segment has the events of one transaction of one writer.

    magic        8 bytes, ``ORBSEG01``
    header       length as 4 bytes, then msgpack: ``FileHeader``
    blocks       zstd frames; each is a msgpack array of rows [position, writer, seq, data]
    trailer      msgpack: ``FileTrailer``, the table of blocks and the hashes that seal the file
    footer       offset and length of the trailer (8 and 4 bytes), sha256 over header and trailer
    magic        8 bytes, ``ORBSEGEN``

Numbers outside msgpack are big-endian. ``seq`` numbers the segments of one writer, from 1. ``data``
has the bytes of the segment's value in etcd.

The hash chain is over segments, so that the hashes do not depend on the sizes of the files.

The digest in the footer identifies the file; the next file's header, or the archive cursor in etcd,
has a copy. The digest covers the table of blocks, which has the hash before each block: a reader
can verify a block without reading the whole file.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cached_property
from hashlib import sha256
from struct import Struct
from typing import Final, NamedTuple, NoReturn, TypeVar

import msgspec
import zstandard

from core.errors import LogCorrupt
from core.eventstore.codec import DECODING_ERRORS
from core.eventstore.kv import REQUEST_BYTES_MAX
from core.eventstore.log_reader import Segment

CHAIN_START: Final = bytes(32)

_SEGMENT_PREFIX: Final = Struct(">QQH")


def chained(previous: bytes, segments: Iterable[Segment]) -> bytes:
    """Continue the hash chain over these segments; return the hash after the last segment.

    One step is ``sha256(previous + position + seq + length of writer + writer + data)``.
    ``position`` and ``seq`` have 8 bytes, the length has 2 bytes, all big-endian.
    """
    for position, writer, seq, data in segments:
        name = writer.encode()
        prefix = _SEGMENT_PREFIX.pack(position, seq, len(name))
        previous = sha256(previous + prefix + name + data).digest()
    return previous


FORMAT_VERSION = 1

BLOCK_BYTES = 128 * 1024
"""Raw bytes at which a block is closed. Smaller blocks compress badly; larger blocks are slow to
read for one segment."""

BLOCK_BYTES_MAX = BLOCK_BYTES + 2 * REQUEST_BYTES_MAX
"""The last segment of a block may be as large as one request to etcd."""

ZSTD_LEVEL = 3

_MAGIC: Final = b"ORBSEG01"
_MAGIC_END: Final = b"ORBSEGEN"
_LENGTH: Final = Struct(">I")
_FOOTER: Final = Struct(">QI32s8s")

T = TypeVar("T")
_encoder = msgspec.msgpack.Encoder()


class FileLink(NamedTuple):
    """A reference to a file. ``base``: the name without the suffix ("": no file)."""

    base: str
    digest: bytes


NO_FILE: Final = FileLink(base="", digest=b"")


class FileHeader(NamedTuple):
    """The header of a file. Times are Unix milliseconds. ``number``: counts files from 1.

    ``ranges``: writer -> first and last seq. ``chain_start``: the hash before the first segment.
    ``clock_ms``: the log's clock (``core.archive.replay``) at the end of the file.
    """

    version: int
    cluster: str
    number: int
    previous: FileLink
    first_position: int
    last_position: int
    segments: int
    events: int
    ranges: dict[str, tuple[int, int]]
    chain_start: bytes
    clock_ms: int
    sealed_at_ms: int


class Block(NamedTuple):
    """A row of the table of blocks. ``chain_before``: the hash before the block's first segment."""

    offset: int
    size: int
    raw_size: int
    segments: int
    first_position: int
    last_position: int
    chain_before: bytes


class FileTrailer(NamedTuple):
    """The end of a file. ``chain_end``: the hash after the last segment."""

    blocks: tuple[Block, ...]
    chain_end: bytes
    index_digest: bytes
    snapshot_digest: bytes


_segments_decoder = msgspec.msgpack.Decoder(list[Segment])
_header_decoder = msgspec.msgpack.Decoder(FileHeader)
_trailer_decoder = msgspec.msgpack.Decoder(FileTrailer)


class BlockWriter:
    """Packs segments into compressed blocks in memory, in log order."""

    def __init__(self, chain: bytes) -> None:
        self.chain_start = chain
        self.chain = chain
        self.blocks: list[Block] = []
        self.frames: list[bytes] = []
        self._closed_bytes = 0
        self._offset = 0
        self._pending: list[Segment] = []
        self._pending_bytes = 0
        self._compressor = zstandard.ZstdCompressor(level=ZSTD_LEVEL)

    @property
    def next_block_number(self) -> int:
        """The number of the block to which the next segment is added."""
        return len(self.blocks)

    @property
    def raw_bytes(self) -> int:
        """The raw bytes of all added segments."""
        return self._closed_bytes + self._pending_bytes

    def add(self, segment: Segment) -> None:
        """Append one segment; close a full block."""
        self._pending.append(segment)
        self._pending_bytes += len(segment.data)
        if self._pending_bytes >= BLOCK_BYTES:
            self.close_block()

    def close_block(self) -> None:
        """Compress the pending segments into a block."""
        if not self._pending:
            return
        raw = _encoder.encode(self._pending)
        frame = self._compressor.compress(raw)
        first, last = self._pending[0].position, self._pending[-1].position
        entry = Block(
            self._offset, len(frame), len(raw), len(self._pending), first, last, self.chain
        )
        self.blocks.append(entry)
        self.frames.append(frame)
        self._offset += len(frame)
        self._closed_bytes += len(raw)
        self.chain = chained(self.chain, self._pending)
        self._pending = []
        self._pending_bytes = 0


def assemble(
    header: FileHeader, blocks: BlockWriter, index_digest: bytes, snapshot_digest: bytes
) -> tuple[bytes, list[bytes]]:
    """The file's digest, and its bytes in chunks. The last block must be closed."""
    head = _encoder.encode(header)
    offset = len(_MAGIC) + _LENGTH.size + len(head)
    table = tuple(block._replace(offset=block.offset + offset) for block in blocks.blocks)
    trailer = _encoder.encode(FileTrailer(table, blocks.chain, index_digest, snapshot_digest))
    digest = sha256(head + trailer).digest()
    end = offset + sum(map(len, blocks.frames))
    footer = _FOOTER.pack(end, len(trailer), digest, _MAGIC_END)
    return digest, [_MAGIC, _LENGTH.pack(len(head)), head, *blocks.frames, trailer, footer]


class SealedFile:
    """A file for reading. Opening verifies header and table; reading a block verifies the block."""

    def __init__(self, view: memoryview, link: FileLink) -> None:
        """Raises LogCorrupt if header and table do not match the digest in footer and link.

        If ``link.digest`` is empty, only the footer's digest is compared.
        """
        self.base = link.base
        self._view = view
        footer_at = len(view) - _FOOTER.size
        start = len(_MAGIC) + _LENGTH.size
        if footer_at < start or bytes(view[: len(_MAGIC)]) != _MAGIC:
            self._corrupt("it does not begin as an archive file, or its end is missing")
        trailer_at, size, digest, magic = _FOOTER.unpack(view[footer_at:])
        head = bytes(view[start : start + _LENGTH.unpack(view[len(_MAGIC) : start])[0]])
        self._trailer = bytes(view[trailer_at : trailer_at + size])
        if magic != _MAGIC_END or sha256(head + self._trailer).digest() != digest:
            self._corrupt("its header or its table of blocks was changed")
        if link.digest and digest != link.digest:
            self._corrupt("its digest differs from that in the archive cursor or the next file")
        self.link = FileLink(link.base, digest)
        self.header = self._decode(_header_decoder, head)
        if self.header.version != FORMAT_VERSION:
            version = self.header.version
            raise LogCorrupt(
                f"archive file {self.base} has the unknown format version {version}",
                subject=self.base,
                remedy=f"use a release that reads version {version}",
            )

    @cached_property
    def trailer(self) -> FileTrailer:
        """Decoded at the first use. Raises LogCorrupt."""
        return self._decode(_trailer_decoder, self._trailer)

    def segments(self, number: int) -> list[Segment]:
        """The segments of one block, verified by the hash chain. Raises LogCorrupt."""
        blocks = self.trailer.blocks
        block = blocks[number]
        is_last = number + 1 == len(blocks)
        chain_after = self.chain_end if is_last else blocks[number + 1].chain_before
        segments = self._decode(_segments_decoder, self._unpack(block, number))
        if chained(block.chain_before, segments) != chain_after:
            self._corrupt(f"block {number} breaks the hash chain")
        return segments

    @property
    def chain_end(self) -> bytes:
        """The hash after the last segment."""
        return self.trailer.chain_end

    def blocks_between(self, after: int, upto: int) -> Iterator[int]:
        """The numbers of the blocks that have positions in (after, upto]."""
        for number, block in enumerate(self.trailer.blocks):
            if block.last_position > after and block.first_position <= upto:
                yield number

    def _unpack(self, block: Block, number: int) -> bytes:
        frame = self._view[block.offset : block.offset + block.size]
        try:
            size = zstandard.frame_content_size(frame)
            if size != block.raw_size or size > BLOCK_BYTES_MAX:
                self._corrupt(f"block {number} does not have the size in the table of blocks")
            return zstandard.ZstdDecompressor().decompress(frame)
        except zstandard.ZstdError as error:
            self._corrupt(f"block {number} cannot be decompressed: {error}")

    def _decode(self, decoder: msgspec.msgpack.Decoder[T], data: bytes) -> T:
        try:
            return decoder.decode(data)
        except DECODING_ERRORS as error:
            self._corrupt(f"its header, table of blocks or segments cannot be decoded: {error}")

    def _corrupt(self, why: str) -> NoReturn:
        raise LogCorrupt(
            f"archive file {self.base} cannot be used: {why}",
            subject=self.base,
            remedy="restore it from a copy of the archive",
        )
