"""TLS to servers whose certificates we do not issue: API server, network provider, etcd.

Since Python 3.13, certificates must follow RFC 5280 strictly (``VERIFY_X509_STRICT``). The strict
check refuses authorities without the key-usage extension, such as those that ``openssl req -x509``
creates. Many clusters have such authorities, and Go programs (kubelet, kubectl) accept them.
Chains, names and dates are still verified.
"""

from __future__ import annotations

import ssl


def without_strict_x509(context: ssl.SSLContext) -> ssl.SSLContext:
    """Make the context accept every certificate that Go accepts, and return it."""
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context
