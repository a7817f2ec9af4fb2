"""The etcd roles of agents and controllers, as ranges of keys.

An agent reads all keys of its cluster and writes those that CNI calls change; a controller (and
orbctl) writes all keys of its cluster. etcd identifies a process by the common name of its client
certificate, which all agents share: a role cannot prevent one node's agent from writing another
node's log, claims or endpoints. ``orbctl verify`` reports such changes
(``core.audit.ownership_check``). Pure: the roles are derived from the key layout.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from core.eventstore.keys import COOL_DOWN_PREFIX, Keys, range_end

AGENT_USER: Final = "orbweaver-agent"
"""The common name of the agents' client certificate, which is their user in etcd."""

CONTROLLER_USER: Final = "orbweaver-controller"
"""The common name and user of controllers, of the chart's hooks, and of orbctl in those Pods."""

ROOT_USER: Final = "root"
"""The name of the user and role that etcd requires to enable authentication."""

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
"""Prefixes that an agent writes besides its log and head: claims, endpoints, GUIDs of virtual
functions, cool-down marks, quarantines of addresses in conflict, requests for automatic pools and
for bindings by a network provider.
"""

_NODE_NAMES: Final = ((b"0", b":"), (b"a", b"{"))
"""First characters of node names, as [first, after the last): digits and lower-case letters.
Writer names of controllers begin with an upper-case letter (``CONTROLLER_WRITERS``).
"""


class Permission(NamedTuple):
    """The permission of a role for the keys of [start, end)."""

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
