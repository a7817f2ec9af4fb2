"""Syntax of Kubernetes names: labels, objects, and parts of keys.

Checked by character sets instead of regular expressions, in linear time for any text.
"""

from __future__ import annotations

import string
from typing import Final

SUBDOMAIN_CHARS_MAX: Final = 253
"""Length of a DNS subdomain (RFC 1123): names of objects and in keys, prefixes of label keys."""

_ALPHANUMERIC: Final = frozenset(string.ascii_letters + string.digits)
_NAME_CHARS: Final = _ALPHANUMERIC | frozenset("-_.")
_LOWER_ALPHANUMERIC: Final = frozenset(string.ascii_lowercase + string.digits)
_DNS_CHARS: Final = _LOWER_ALPHANUMERIC | frozenset("-")


def is_name(text: str) -> bool:
    """Letters, digits, ``-``, ``_`` and ``.``, with a letter or digit at both ends."""
    return (
        bool(text)
        and text[0] in _ALPHANUMERIC
        and text[-1] in _ALPHANUMERIC
        and _NAME_CHARS.issuperset(text)
    )


def is_dns_label(text: str) -> bool:
    """One part of a DNS name, in lower case; its length is not checked."""
    return (
        bool(text)
        and text[0] in _LOWER_ALPHANUMERIC
        and text[-1] in _LOWER_ALPHANUMERIC
        and _DNS_CHARS.issuperset(text)
    )
