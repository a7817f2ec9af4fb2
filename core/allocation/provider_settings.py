"""The settings of the network provider: a cloud API that binds each address to a NIC. Pure.

See docs/reference/configuration.md, "conf.yml", ``iaasNetworkProvider``.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from core.errors import BadInput

REQUEST_TIMEOUT_S: Final = 50.0
"""The default of ``httpRequestTimeout``."""

REQUEST_TIMEOUT_S_MAX: Final = 100.0
"""``httpRequestTimeout`` must be below this."""

_DURATION_PART: Final = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h)")
_UNIT_S: Final = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


class ProviderSettings(NamedTuple):
    """The settings. ``ca_file`` "": use the CA certificates that the machine trusts."""

    server_url: str
    request_timeout_s: float = REQUEST_TIMEOUT_S
    verify_tls: bool = True
    ca_file: str = ""


def provider_settings(
    server_url: str, request_timeout: str, *, verify_tls: bool = True, ca_file: str = ""
) -> ProviderSettings | None:
    """Parse the settings; None without a server. Raises BadInput with the key as its subject."""
    if not server_url:
        return None
    timeout_s = _timeout_s(request_timeout) if request_timeout else REQUEST_TIMEOUT_S
    return ProviderSettings(_checked_url(server_url), timeout_s, verify_tls, ca_file)


def _checked_url(text: str) -> str:
    key = "iaasNetworkProvider.serverUrl"
    remedy = "write http(s)://host[:port]"
    try:
        url = urlsplit(text)
        has_host = url.scheme in ("http", "https") and bool(url.hostname) and url.port != 0
        is_valid = has_host and not (url.username or url.query or url.fragment)
    except ValueError:
        is_valid = False
    if not is_valid:
        raise BadInput(f"{key} is not an http(s) URL: {text!r}", subject=key, remedy=remedy)
    return text.rstrip("/")


def _timeout_s(text: str) -> float:
    """Parse a duration in Go's syntax, such as ``1m30s``. Raises BadInput."""
    key = "iaasNetworkProvider.httpRequestTimeout"
    if not re.fullmatch(f"({_DURATION_PART.pattern})+", text):
        raise BadInput(
            f"{key} is not a duration: {text!r}", subject=key, remedy="write it as 50s or 1m10s"
        )
    seconds = sum(float(number) * _UNIT_S[unit] for number, unit in _DURATION_PART.findall(text))
    if not 0 < seconds < REQUEST_TIMEOUT_S_MAX:
        raise BadInput(
            f"{key} is {text}, not between 0 and {REQUEST_TIMEOUT_S_MAX:g} s",
            subject=key,
            remedy=f"use a value below {REQUEST_TIMEOUT_S_MAX:g}s; the default is 50s",
        )
    return seconds
