"""The addresses of etcd, the client's credentials, and every limit of the client.

Plain data. The password is never shown.
"""

from __future__ import annotations

from typing import NamedTuple

READ_ATTEMPT_S = 2.0
"""Seconds for the first attempt of a read before the next endpoint is tried.

Each further attempt may take twice as long, so that a large read succeeds.
"""

READ_DEADLINE_S = 8.0
"""Seconds for all attempts of one read together: enough for an election and a slow answer."""

WRITE_DEADLINE_S = 5.0
"""Seconds after which a write without an answer has an unknown outcome."""

CONNECT_ATTEMPT_S = 1.0
"""Seconds to connect to one endpoint before the next one is tried."""

RETRY_WAIT_S_MAX = 0.5
"""The longest pause between two attempts of a read, in seconds."""

WATCH_RETRY_S_MAX = 2.0
"""The longest pause before a broken watch is opened again, in seconds."""

WATCH_HELD_S = 0.1
"""Seconds between progress requests of a watch that holds changes back.

A watch of several ranges holds a revision back until it has the changes of all ranges.
"""

WATCH_HELD_CHANGES_MAX = 100_000
"""Changes that a watch of several ranges may hold back.

Beyond that, the watch raises WatchTooFarBehind: its caller reads the current state and watches
again.
"""

FIRST_PAGE_KEYS = 2_000
"""Keys in the first page of a range without a limit; nearly every read needs only this page."""

PAGE_BYTES = 8_000_000
"""Bytes of the later pages of a long read.

Measured on two cores, seconds for a read of keys of 200 B:

                                        400,000 keys   100,000 keys
    one answer                             3.2             0.32   (blocks the event loop for 0.75 s)
    pages of 1,000 keys                   16               1.1    (etcd counts the rest for each)
    pages of 10,000 keys                   3.2             0.44
    pages of 8 MB                          2.1             0.40   (block the event loop for 0.18 s)
    ranges between keys known before       1.4             0.54   (only the caller can know them)
"""

PAGE_KEYS_MAX = 50_000
"""The largest number of keys in one page, however small they are."""

READ_ATTEMPTS_MAX = 3
"""Attempts of a long read; compactions between its pages make it begin again."""

KEEPALIVE_S = 7.0
"""Seconds without received data before a ping during a call.

etcd closes connections of clients that ping more often than every 5 s.
"""

KEEPALIVE_TIMEOUT_S = 3.0
"""Seconds after which a connection whose ping was not answered counts as dead."""

RECONNECT_MIN_S = 0.1
"""The longest pause after the first failed attempt to connect to an endpoint, in seconds.

It grows with each further failure to ``RECONNECT_MAX_S``; the actual pause is random.
"""

RECONNECT_MAX_S = 2.0
"""The longest pause between attempts to connect to an endpoint, in seconds."""


class EtcdSettings(NamedTuple):
    """How to reach one etcd cluster.

    ``endpoints`` are ``host:port``, optionally after ``http://`` or ``https://``. With a CA file,
    or an https endpoint, connections use TLS. The client certificate and its key, set together,
    authenticate this process; so does the token that etcd grants for ``user`` and ``password``.
    Times are in seconds.
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
