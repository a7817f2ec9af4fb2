"""TLS to servers whose certificates others have made: the API server, a network provider.

Python 3.13 verifies strictly by RFC 5280 (``VERIFY_X509_STRICT``): an authority without the
key-usage extension, as ``openssl req -x509`` makes it and many clusters have, is refused. Go, and
so kubelet and kubectl, accept it; so do we. Chains, names and dates are verified as ever.
Also used for etcd (``core/eventstore/etcd/certificates.py``).
"""

from __future__ import annotations

import ssl


def not_strict(context: ssl.SSLContext) -> ssl.SSLContext:
    """The same context, accepting certificates that Go accepts."""
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context
