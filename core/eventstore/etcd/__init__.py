"""The key-value store on etcd, with a client of its own (docs/contributing/decisions/0028).

    client.py              EtcdStore, the ``KeyValueStore`` itself
    calls.py               one call: endpoint, token, deadline, errors
    reads.py               reading large ranges in pages at one revision
    watch.py               one watch over several ranges that survives broken connections
    channel.py             a channel to each endpoint; after a failure another endpoint is used
    http2/                 a client of gRPC over HTTP/2
    lease_renewals.py      renewals of leases on one stream
    certificates.py        the files of the settings -> an SSL context
    access_control.py      creates roles and users, and enables authentication
    user_token.py          user and password -> token, renewed when etcd rejects it
    failures.py            the effect of a failed call: rejected, nothing written, or unknown
    message_conversion.py  values of ``kv`` <-> protobuf messages
    txn_encoder.py         transactions of ``kv`` -> bytes of a request
    maintenance.py         defragments members and clears the alarm NOSPACE
    methods.py             the path and the answer message of each method of etcd
    messages.py            the messages of etcd that this package uses
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
