"""The addresses of etcd, the client's credentials, and every limit of the client.

``repr`` does not show the password.
"""

from __future__ import annotations

from typing import NamedTuple

READ_ATTEMPT_S = 2.0
"""Timeout of the first attempt of a read, in seconds.

Each further attempt may take twice as long as the attempt before, so that a large read succeeds.
"""

READ_DEADLINE_S = 8.0
"""Timeout of all attempts of one read together, in seconds.

The time is enough for an election of etcd's leader and a slow answer.
"""

WRITE_DEADLINE_S = 5.0
"""Seconds after which a write without an answer has an unknown outcome."""

CONNECT_ATTEMPT_S = 1.0
"""Timeout of an attempt to connect to one endpoint, in seconds."""

RETRY_WAIT_S_MAX = 0.5
"""The longest pause between two attempts of a read, in seconds."""

WATCH_RETRY_S_MAX = 2.0
"""The longest pause before a broken watch is opened again, in seconds."""

WATCH_HELD_S = 0.1
"""Seconds between progress requests of a watch that holds changes back.

A watch of several ranges holds a revision back until the changes of all ranges have arrived.
"""

WATCH_HELD_CHANGES_MAX = 100_000
"""The most changes that a watch of several ranges holds back.

For a further change, the watch raises WatchTooFarBehind. The caller must then read the current
state and watch again.
"""

FIRST_PAGE_KEYS = 2_000
"""The most keys in the first page of a range; nearly every read needs only this page."""

PAGE_BYTES = 8_000_000
"""Approximate size of the second and each later page of a long read, in bytes.

Measured on two cores: seconds to read keys with 200 B each.

                                        400,000 keys   100,000 keys
    one answer                             3.2             0.32   (blocks the event loop for 0.75 s)
    pages of 1,000 keys                   16               1.1    (etcd counts the rest each time)
    pages of 10,000 keys                   3.2             0.44
    pages of 8 MB                          2.1             0.40   (block the event loop for 0.18 s)
    ranges between known keys              1.4             0.54   (the caller must know these keys)
"""

PAGE_KEYS_MAX = 50_000
"""The most keys in one page."""

READ_ATTEMPTS_MAX = 3
"""The most attempts of a long read. A compaction between two pages makes a read start again."""

KEEPALIVE_S = 7.0
"""During a call, a ping is sent after this many seconds without received data.

etcd closes connections of clients that ping more often than every 5 s.
"""

KEEPALIVE_TIMEOUT_S = 3.0
"""Seconds to wait for the answer to a ping, before the connection counts as dead."""

RECONNECT_MIN_S = 0.1
"""The longest pause after the first failed attempt to connect to an endpoint, in seconds.

The longest pause grows with each further failure, up to ``RECONNECT_MAX_S``. The actual pause is
random.
"""

RECONNECT_MAX_S = 2.0
"""The longest pause after any failed attempt to connect to an endpoint, in seconds."""


class EtcdSettings(NamedTuple):
    """How to reach one etcd cluster.

    ``endpoints``: ``host:port``, optionally after ``http://`` or ``https://``. Connections use TLS
    if there is a CA file or an https endpoint. The process authenticates by a client certificate
    (``cert_file`` and ``key_file``, set together), or by ``user`` and ``password``. Times are in
    seconds.
    """

    endpoints: tuple[str, ...]
    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""
    user: str = ""
    password: str = ""
    read_attempt_s: float = READ_ATTEMPT_S
    read_deadline_s: float = READ_DEADLINE_S
    write_deadline_s: float = WRITE_DEADLINE_S

    def __repr__(self) -> str:
        return f"EtcdSettings(endpoints={self.endpoints!r}, user={self.user!r})"

    @property
    def secure(self) -> bool:
        """Whether connections use TLS."""
        return bool(self.ca_file) or any(
            endpoint.startswith("https://") for endpoint in self.endpoints
        )
