"""etcd's addresses, the client's credentials, and every limit. Times are in seconds."""

from __future__ import annotations

from typing import NamedTuple

READ_ATTEMPT_S = 2.0
"""The timeout of a read's first attempt. It doubles with each attempt, for large reads."""

READ_DEADLINE_S = 8.0
"""For all attempts of a read together: enough for an election of etcd's leader."""

WRITE_DEADLINE_S = 5.0
"""A write without an answer in this time has an unknown outcome."""

CONNECT_ATTEMPT_S = 1.0

RETRY_WAIT_S_MAX = 0.5
"""The longest pause between two attempts of a read."""

WATCH_RETRY_S_MAX = 2.0
"""The longest pause before a broken watch is opened again."""

WATCH_HELD_S = 0.1
"""The time between progress requests while a watch holds changes back."""

WATCH_HELD_CHANGES_MAX = 100_000
"""If a watch must hold more changes back, it raises WatchTooFarBehind."""

FIRST_PAGE_KEYS = 2_000

PAGE_BYTES = 8_000_000
"""The approximate size of later pages.

Measured on two cores: seconds to read keys with 200 B each.

                              400,000 keys   100,000 keys
    one answer                   3.2             0.32   (blocks the event loop for 0.75 s)
    pages of 1,000 keys         16               1.1    (etcd counts the rest each time)
    pages of 10,000 keys         3.2             0.44
    pages of 8 MB                2.1             0.40   (block the event loop for 0.18 s)
"""

PAGE_KEYS_MAX = 50_000

READ_ATTEMPTS_MAX = 3
"""A compaction between two pages makes a read start again."""

KEEPALIVE_S = 7.0
"""A ping follows after this silence. etcd permits one ping in 5 s, and none without a call."""

KEEPALIVE_TIMEOUT_S = 3.0
"""A connection whose ping has no answer in this time counts as dead."""

RECONNECT_FIRST_S = 0.1
"""The upper limit of the first pause; it doubles with each failure, to ``RECONNECT_MAX_S``."""

RECONNECT_MAX_S = 2.0


class EtcdSettings(NamedTuple):
    """How to reach one etcd cluster. ``repr`` does not show the password.

    ``endpoints``: ``host:port``, optionally after ``http://`` or ``https://``. Connections use TLS
    if there is a CA file or an https endpoint. The client authenticates by a certificate
    (``cert_file`` and ``key_file``, set together), or by ``user`` and ``password``.
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
