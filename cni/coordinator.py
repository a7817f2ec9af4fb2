"""The chained executable ``coordinator``: what differs from ``cni/ipam.py``, which it is otherwise.

It runs behind the main plugin in the chain of a network (docs/datapath.md) and must never touch a
network itself.
"""

from __future__ import annotations

PLUGIN = "coordinator"
ROLE = "chained behind a main plugin"
LENIENT_VERBS = (b"DEL",)
UNANSWERED = {
    b"ADD": "coordinator failed to set up the Pod's network: ",
    b"DEL": "coordinator failed to clean up the Pod's network: ",
}
LOG_PATH = "/var/log/spidernet/coordinator.log"
LOG_SECTION = "logOptions"
LOG_KEYS = ("logFile", "logLevel", "logMaxSize")
