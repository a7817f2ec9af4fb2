"""The key-value store on etcd, with a client of its own (docs/contributing/decisions/0028).

    client.py    EtcdStore, the ``KeyValueStore`` itself
    calls.py     one call: endpoint, token, deadline, errors
    reads.py     large ranges in pages at one revision
    watch.py     one watch over several ranges
    channel.py   a channel to each endpoint
    http2/       gRPC over HTTP/2
    failures.py  the effect of a failed call on the data
    settings.py  addresses, credentials and limits

This package does not depend on IP addresses or pools.
"""

from __future__ import annotations

from core.eventstore.etcd.client import EtcdStore
from core.eventstore.etcd.settings import EtcdSettings

__all__ = ["EtcdSettings", "EtcdStore"]
