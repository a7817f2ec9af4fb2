"""Check the syntax of names of Kubernetes objects and labels."""

from __future__ import annotations

import string
from typing import Final

SUBDOMAIN_CHARS_MAX: Final = 253
"""Characters of an object name or of a label key's prefix (RFC 1123)."""

_ALPHANUMERIC: Final = frozenset(string.ascii_letters + string.digits)
_NAME_CHARS: Final = _ALPHANUMERIC | frozenset("-_.")
_LOWER_ALPHANUMERIC: Final = frozenset(string.ascii_lowercase + string.digits)
_DNS_CHARS: Final = _LOWER_ALPHANUMERIC | frozenset("-")


def is_name(text: str) -> bool:
    """Whether the text has only letters, digits and ``-_.``, with a letter or digit at each end."""
    return (
        bool(text)
        and text[0] in _ALPHANUMERIC
        and text[-1] in _ALPHANUMERIC
        and _NAME_CHARS.issuperset(text)
    )


def is_dns_label(text: str) -> bool:
    """Whether the text is one part of a lower-case DNS name. The length is not checked."""
    return (
        bool(text)
        and text[0] in _LOWER_ALPHANUMERIC
        and text[-1] in _LOWER_ALPHANUMERIC
        and _DNS_CHARS.issuperset(text)
    )
