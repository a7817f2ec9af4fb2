"""The key-value store on etcd, with an own client (docs/contributing/decisions/0028).

    client.py    EtcdStore, the ``KeyValueStore`` itself
    calls.py     one call: connected endpoint, token, deadline, error
    reads.py     reading large ranges in pages at one revision
    watch.py     one watch over several ranges that survives its connection
    channel.py   a channel to each endpoint, rotation away from the ones that fail
    http2/       gRPC over HTTP/2: one channel, its connection, its calls
    certificates.py  the files of the settings -> an SSL context
    access_control.py  roles, users and authentication, switched on by a hook of the chart
    auth.py      user and password -> token, renewed when etcd rejects it
    failures.py  the effect of a failed call: rejected, nothing written, or unknown (I9)
    wire.py      values of ``kv`` <-> protobuf messages
    methods.py   etcd's methods: the path of each, the message of its answer
    messages.py  etcd's messages, as far as they are used
    settings.py  addresses, credentials and every limit
    access.py    settings of a user -> EtcdSettings, or an error that names the setting

This package does not depend on addresses; other packages import only ``EtcdStore``,
``EtcdSettings`` and what ``access`` and ``access_control`` have.
"""

from __future__ import annotations

from core.eventstore.etcd.client import EtcdStore
from core.eventstore.etcd.settings import EtcdSettings

__all__ = ["EtcdSettings", "EtcdStore"]
