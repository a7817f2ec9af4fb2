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
"""Seconds of all attempts of one read: enough for an election and a slow answer."""

WRITE_DEADLINE_S = 5.0
"""Seconds after which a write without an answer has an unknown outcome."""

CONNECT_ATTEMPT_S = 1.0
"""Seconds that one endpoint may take to connect before the next one is tried."""

RETRY_WAIT_S_MAX = 0.5
"""The longest pause between two attempts of a read."""

WATCH_RETRY_S_MAX = 2.0
"""The longest pause before a broken watch is opened again."""

WATCH_HELD_S = 0.1
"""Seconds between progress requests of a watch that holds changes back."""

WATCH_HELD_CHANGES_MAX = 100_000
"""Changes that a watch of several ranges may hold back; beyond that it starts again."""

FIRST_PAGE_KEYS = 2_000
"""Keys in the first page of a range without a limit: nearly every read ends there."""

PAGE_BYTES = 8_000_000
"""Bytes of the later pages of a long read.

Measured with 400,000 keys of 200 B on two cores: one answer 3.2 s, during which the event loop
stood still for 0.75 s; pages of 1,000 keys 16 s, since etcd counts the remaining keys for each;
of 10,000 keys 3.2 s; of 8 MB 2.1 s with pauses of 0.18 s; cut by known key bounds, which only the
caller can do, 1.4 s. With 100,000 keys: 0.32, 1.1, 0.44, 0.40 and 0.54 s.
"""

PAGE_KEYS_MAX = 50_000
"""Keys of one page, however small they are."""

RESTARTS_MAX = 3
"""Restarts of a long read after compactions."""

KEEPALIVE_S = 7.0
"""Seconds before a ping during a call; etcd drops clients that ping within 5 s."""

KEEPALIVE_TIMEOUT_S = 3.0
"""A connection whose ping is not answered within this time is dead."""

RECONNECT_MIN_S = 0.1
RECONNECT_MAX_S = 2.0
"""Pauses between attempts to connect to an endpoint that refuses."""


class EtcdSettings(NamedTuple):
    """How to reach one etcd cluster.

    ``endpoints`` are ``host:port``, optionally after ``http://`` or ``https://``. With a CA file,
    or an https endpoint, connections are TLS; certificate and key, always both, authenticate us.
    ``user`` and ``password``: to request a token. Times are in seconds.
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
        """Whether connections are TLS."""
        return bool(self.ca_file) or any(
            endpoint.startswith("https://") for endpoint in self.endpoints
        )
