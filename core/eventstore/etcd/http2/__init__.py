"""A client of gRPC over HTTP/2 on asyncio, with the features that the etcd client needs.

    channel.py       connects to one endpoint and makes calls
    connection.py    one connection: settings, streams, closing
    stream.py        one call: bytes <-> gRPC messages
    flow_control.py  the queue of data that waits for a window
    headers.py       header blocks

docs/contributing/decisions/0028 explains why ``grpc.aio`` is not used.
"""

from __future__ import annotations

from core.eventstore.etcd.http2.channel import Channel
from core.eventstore.etcd.http2.headers import Metadata
from core.eventstore.etcd.http2.status import RpcError, StatusCode
from core.eventstore.etcd.http2.stream import StreamingCall

__all__ = ["Channel", "Metadata", "RpcError", "StatusCode", "StreamingCall"]
