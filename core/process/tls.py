"""TLS to servers whose certificates we do not issue: API server, network provider, etcd.

Since Python 3.13, ``VERIFY_X509_STRICT`` refuses certificate authorities without the key-usage
extension. Go programs accept such authorities, and many clusters have them.
"""

from __future__ import annotations

import ssl


def without_strict_x509(context: ssl.SSLContext) -> ssl.SSLContext:
    """Turn the strict check off; return the context. Chains, names and dates are still verified."""
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context
