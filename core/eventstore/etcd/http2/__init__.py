"""A client of gRPC over HTTP/2 on asyncio, with the features that the etcd client needs.

    channel.py              connects to one endpoint and makes calls
    connection.py           one connection: settings, streams, closing
    dead_peer_detection.py  pings an idle peer
    flow_control.py         receive windows, and the queue of data to send
    stream_table.py         the open streams of a connection
    stream.py               one call: bytes <-> gRPC messages
    headers.py              header blocks, without a dynamic table
    frames.py               encoding and decoding of frames
    status.py               statuses of gRPC, and the error of a failed call

docs/contributing/decisions/0028 explains why ``grpc.aio`` is not used.
"""

from __future__ import annotations

from core.eventstore.etcd.http2.channel import Channel
from core.eventstore.etcd.http2.headers import Metadata
from core.eventstore.etcd.http2.status import RpcError, StatusCode
from core.eventstore.etcd.http2.stream import StreamingCall

__all__ = ["Channel", "Metadata", "RpcError", "StatusCode", "StreamingCall"]
