"""The etcd roles of agents and controllers, as ranges of keys.

Agents may read all keys of the cluster, and write the keys that CNI calls change. Controllers and
orbctl may write all keys of the cluster.

etcd identifies a process by the common name of the client certificate. All agents have the same
common name, so a role cannot prevent an agent from writing the log, claims or endpoints of another
node. ``orbctl verify`` reports such changes (``core.audit.ownership_check``). Pure.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from core.eventstore.keys import COOL_DOWN_PREFIX, Keys, range_end

AGENT_USER: Final = "orbweaver-agent"
"""The etcd user of agents: the common name of their client certificate."""

CONTROLLER_USER: Final = "orbweaver-controller"
"""The etcd user of controllers, of the Helm chart's hooks, and of orbctl in these Pods."""

ROOT_USER: Final = "root"
"""The user that etcd requires to enable authentication; its role has the same name."""

_AGENT_PREFIXES: Final = (
    ("ip",),
    ("endpoint",),
    ("guid",),
    ("node-guids",),
    (COOL_DOWN_PREFIX,),
    ("quarantine",),
    ("guard", "quarantine"),
    ("need",),
    ("binding",),
)
"""Prefixes of the keys that an agent may write, besides its log and head."""

_NODE_NAMES: Final = ((b"0", b":"), (b"a", b"{"))
"""Ranges [start, end) of the first character of a node name: digits and lower-case letters.
Writer names of controllers begin with an upper-case letter (``CONTROLLER_WRITERS``).
"""


class Permission(NamedTuple):
    """The permission of a role for the keys in [start, end)."""

    start: bytes
    end: bytes
    may_write: bool


class EtcdRole(NamedTuple):
    """A role of one cluster and the etcd user that has it."""

    name: str
    user: str
    permissions: tuple[Permission, ...]


def roles_of(
    keys: Keys, agent_user: str = AGENT_USER, controller_user: str = CONTROLLER_USER
) -> tuple[EtcdRole, EtcdRole]:
    """The roles of agents and of controllers."""
    all_keys = keys.root, range_end(keys.root)
    writable = [
        (keys.root + prefix + first, keys.root + prefix + last)
        for prefix in (b"log/", b"head/")
        for first, last in _NODE_NAMES
    ]
    writable += [keys.range_of(*parts) for parts in _AGENT_PREFIXES]
    agent = (
        Permission(*all_keys, may_write=False),
        *(Permission(*span, may_write=True) for span in writable),
    )
    return (
        EtcdRole(f"orbweaver-{keys.cluster}-agent", agent_user, agent),
        EtcdRole(
            f"orbweaver-{keys.cluster}-controller",
            controller_user,
            (Permission(*all_keys, may_write=True),),
        ),
    )
