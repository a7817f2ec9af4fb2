"""The chained executable ``ifacer``: what differs from ``cni/ipam.py``, which it is otherwise.

It stands first in the chain and asks the agent to prepare the master NIC in the node's own network
namespace (docs/ifacer.md). Nothing is ever removed, so that only ADD needs the agent.
"""

from __future__ import annotations

PLUGIN = "ifacer"
ROLE = "first of a chain: it prepares the master interface"
VERSIONS = ("0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0")
DONE_VERBS = (b"DEL", b"CHECK", b"GC", b"STATUS")
UNANSWERED: dict[bytes, str] = {}
LOG_PATH = "/var/log/spidernet/ifacer.log"
