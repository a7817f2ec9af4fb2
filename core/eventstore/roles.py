"""What each kind of process may read and write in etcd, as ranges of keys.

Promise: plain data from the key layout alone. An agent reads everything of its cluster and writes
what serving CNI calls takes; a controller (and orbctl) writes everything of its cluster. etcd tells
the processes apart by the common name of their client certificate, which all agents share: it
cannot keep one node's agent off another node's log, claims or endpoints. ``orbctl verify`` shows a
change that an agent made in another node's name (``core.audit.ownership``).
"""

from __future__ import annotations

from typing import Final, NamedTuple

from core.eventstore.keys import Keys, range_end

AGENT_USER: Final = "orbweaver-agent"
"""The common name of the agents' client certificate, and so their user in etcd."""

CONTROLLER_USER: Final = "orbweaver-controller"
"""The same of controllers, hooks of the chart, and orbctl where it runs in their Pods."""

ROOT_USER: Final = "root"
"""etcd's own name of the user, and of the role, without which authentication cannot be on."""

_AGENT_ROOMS: Final = (
    ("ip",),
    ("endpoint",),
    ("rest",),
    ("quarantine",),
    ("guard", "quarantine"),
    ("need",),
    ("binding",),
)
"""What an agent writes beside its log and head: claims, endpoints, cool-downs, a quarantined
address of a conflicting host, the request for an automatic pool, and that for a provider's binding.
"""

_NODE_NAMES: Final = ((b"0", b":"), (b"a", b"{"))
"""First characters of a node's name, as [first, after the last): digits and lower-case letters.
Writers of controllers begin with an upper-case letter (``CONTROLLER_WRITERS``).
"""


class Permission(NamedTuple):
    """What a role may do with the keys of [start, end)."""

    start: bytes
    end: bytes
    may_write: bool


class EtcdRole(NamedTuple):
    """A role of one cluster, and the etcd user that has it."""

    name: str
    user: str
    permissions: tuple[Permission, ...]


def roles_of(
    keys: Keys, agent_user: str = AGENT_USER, controller_user: str = CONTROLLER_USER
) -> tuple[EtcdRole, EtcdRole]:
    """The roles of agents and of controllers."""
    whole = keys.root, range_end(keys.root)
    writable = [
        (keys.root + room + first, keys.root + room + last)
        for room in (b"log/", b"head/")
        for first, last in _NODE_NAMES
    ]
    writable += [keys.room(*room) for room in _AGENT_ROOMS]
    agent = (Permission(*whole, may_write=False), *(Permission(*one, True) for one in writable))
    return (
        EtcdRole(f"orbweaver-{keys.cluster}-agent", agent_user, agent),
        EtcdRole(
            f"orbweaver-{keys.cluster}-controller", controller_user, (Permission(*whole, True),)
        ),
    )
