"""The etcd roles of agents and controllers, as ranges of keys.

Agents may read all keys and write those that CNI calls change. Controllers and orbctl may write all
keys. All agents are one etcd user, so a role cannot keep an agent from writing the log, claims or
endpoints of another node. ``orbctl verify`` reports such changes.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from core.eventstore.keys import COOL_DOWN_PREFIX, Keys, range_end

AGENT_USER: Final = "orbweaver-agent"
"""The common name of the agents' client certificate."""

CONTROLLER_USER: Final = "orbweaver-controller"
"""Also the user of the chart's hooks, and of orbctl in a Pod of a controller or hook."""

ROOT_USER: Final = "root"
"""etcd requires this user to enable authentication."""

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
"""Prefixes of keys that an agent may write, besides its log and head."""

_NODE_NAME_STARTS: Final = ((b"0", b":"), (b"a", b"{"))
"""Ranges [start, end) of the first character of a node name.

The prefix ``CONTROLLER_WRITERS`` is outside these ranges.
"""


class Permission(NamedTuple):
    """The permission for the keys in [start, end)."""

    start: bytes
    end: bytes
    may_write: bool


class EtcdRole(NamedTuple):
    """A role and the etcd user that has it."""

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
        for first, last in _NODE_NAME_STARTS
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
