"""A client of gRPC over HTTP/2, on asyncio, for etcd: what the etcd client needs and no more.

    channel.py       connects to one endpoint, makes calls
    connection.py    one connection: settings, streams, its end
    keepalive.py     pings when nothing has arrived for a while
    flow_control.py  sizes of our windows, and what may be sent now
    stream_table.py  the open streams of a connection
    stream.py        one call: bytes <-> gRPC messages, how it ended
    headers.py       header blocks, without a dynamic table
    frames.py        frames <-> bytes
    status.py        statuses of gRPC, and the error of a failed call

Why not ``grpc.aio``: docs/contributing/decisions/0028. This package does not depend on etcd's
messages.
"""

from __future__ import annotations

from core.eventstore.etcd.http2.channel import Channel
from core.eventstore.etcd.http2.headers import Metadata
from core.eventstore.etcd.http2.status import RpcError, StatusCode
from core.eventstore.etcd.http2.stream import StreamingCall

__all__ = ["Channel", "Metadata", "RpcError", "StatusCode", "StreamingCall"]
