"""The key-value store on etcd, with a client of its own (docs/contributing/decisions/0028).

    client.py              EtcdStore, the ``KeyValueStore`` itself
    calls.py               one call: connected endpoint, token, deadline, error
    reads.py               reading large ranges in pages at one revision
    watch.py               one watch over several ranges that survives its connection
    channel.py             a channel to each endpoint; after a failure another endpoint is used
    http2/                 gRPC over HTTP/2: one channel, its connection, its calls
    lease_renewals.py      renewals of leases on one stream
    certificates.py        the files of the settings -> an SSL context
    access_control.py      roles, users and authentication, switched on by a hook of the chart
    user_token.py          user and password -> token, renewed when etcd rejects it
    failures.py            the effect of a failed call: rejected, nothing written, or unknown
    message_conversion.py  values of ``kv`` <-> protobuf messages
    txn_encoder.py         transactions of ``kv`` -> bytes of a request
    maintenance.py         defragmentation, and the end of the alarm NOSPACE
    methods.py             etcd's methods: the path of each, the message of its answer
    messages.py            etcd's messages, as far as they are used
    settings.py            addresses, credentials and every limit
    settings_checks.py     a user's settings -> EtcdSettings, or an error that names the setting

This package does not depend on IP addresses or pools. Other packages use ``EtcdStore``,
``EtcdSettings``, ``settings_checks``, ``access_control``, ``maintenance`` and
``calls.CallObserver``.
"""

from __future__ import annotations

from core.eventstore.etcd.client import EtcdStore
from core.eventstore.etcd.settings import EtcdSettings

__all__ = ["EtcdSettings", "EtcdStore"]
