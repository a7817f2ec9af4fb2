"""Maps, programs and links in the kernel: made, found again, brought up to date, taken away.

With a bpffs, maps and links are pinned there, so that sockets are served while no agent runs; the
next agent finds the maps, goes on from what is in them, and exchanges the programs in their links
without a moment between. Without a bpffs all of it ends with the agent.

    <bpffs>/orbweaver/v1/<map>      of this layout; those of others are removed once it is attached
    <bpffs>/orbweaver/links/<hook>

Promise: nothing is attached to but the control group it was given. It decides nothing about
contents. It waits in system calls: use it from a worker's thread.
"""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Final, Self

from core.errors import BpfRefused, DatapathError
from nodeagent.clusterip import layout
from nodeagent.clusterip.frontends import BackendGroup, Frontend
from nodeagent.clusterip.map_plan import MapPlan, StoredMaps, understand
from nodeagent.clusterip.pods import can_pin
from nodeagent.clusterip.program_loader import close, load
from nodeagent.clusterip.programs import HOOKS, DesiredPrograms, Hook
from nodeagent.ebpf.calls import (
    Map,
    attach,
    create_map,
    detach,
    exchange,
    link_info,
    open_pinned,
    pin,
)

ROOM: Final = "orbweaver"
LINKS: Final = "links"
MAPS: Final = f"v{layout.VERSION}"


class Installation:
    """The set in the kernel. ``directory`` None: held by descriptors alone."""

    def __init__(self, directory: Path | None, maps: dict[str, Map]) -> None:
        self.directory = directory
        self._maps = maps
        self._links: list[int] = []

    @classmethod
    def open(cls, bpffs: Path) -> Self:
        """Find the maps, or make them. Raises BpfRefused, DatapathError."""
        directory = bpffs / ROOM if can_pin(bpffs) else None
        maps: dict[str, Map] = {}
        installation = cls(directory, maps)
        try:
            if directory is not None:
                (directory / MAPS).mkdir(parents=True, exist_ok=True, mode=0o700)
                (directory / LINKS).mkdir(exist_ok=True, mode=0o700)
            for spec in layout.MAPS:
                maps[spec.name] = _map(spec.name, directory)
        except OSError as error:
            installation.close()
            raise DatapathError(f"{error.filename}: {error.strerror}", subject=str(bpffs)) from None
        except BpfRefused:
            installation.close()
            raise
        return installation

    @property
    def is_pinned(self) -> bool:
        """Whether it outlives the agent."""
        return self.directory is not None

    def read(self) -> StoredMaps:
        """What the agent's maps have. Raises BpfRefused."""
        services, backends, members = (
            self._maps[spec.name].items()
            for spec in (layout.SERVICES, layout.BACKENDS, layout.MEMBERS)
        )
        return StoredMaps(
            {
                layout.unpack_frontend(key): layout.FrontendHead(*layout.HEAD.unpack(value))
                for key, value in services
            },
            {
                layout.Slot(*layout.SLOT.unpack(key)): layout.unpack_place(value)
                for key, value in backends
            },
            frozenset(layout.unpack_member(key) for key, _ in members),
        )

    def write(self, plan: MapPlan) -> None:
        """Do what a plan says, in its order. Raises BpfRefused; then read again."""
        services, backends, members = (
            self._maps[spec.name] for spec in (layout.SERVICES, layout.BACKENDS, layout.MEMBERS)
        )
        for slot, place in plan.put_backends.items():
            backends.put(layout.SLOT.pack(*slot), layout.pack_place(place))
        for member in plan.put_members:
            members.put(layout.pack_member(member), layout.NOTHING)
        for frontend, head in plan.put_services.items():
            services.put(layout.pack_frontend(frontend), layout.HEAD.pack(*head))
        for frontend in plan.remove_services:
            services.remove(layout.pack_frontend(frontend))
        for slot in plan.remove_backends:
            backends.remove(layout.SLOT.pack(*slot))
        for member in plan.remove_members:
            members.remove(layout.pack_member(member))

    def attach(self, cgroup: Path, wishes: DesiredPrograms) -> None:
        """Let the sockets of a control group be served by this agent's programs.

        Raises BpfRefused, DatapathError.
        """
        loaded = load(self._maps, wishes)
        try:
            group = os.open(cgroup, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                self._let_go()
                for hook, code in loaded.items():
                    self._links.append(self._linked(hook, code, group))
            finally:
                os.close(group)
            self._forget_others()
        except OSError as error:
            raise DatapathError(f"{cgroup}: {error.strerror}", subject=str(cgroup)) from None
        finally:
            close(loaded)

    def is_attached(self, cgroup: Path) -> bool:
        """Whether every hook of this control group is served; it may have been removed."""
        if len(self._links) < len(HOOKS):
            return False
        with suppress(OSError, BpfRefused):
            number = cgroup.stat().st_ino
            return all(link_info(link).cgroup == number for link in self._links)
        return False

    def close(self) -> None:
        """Let go of everything; what is pinned goes on."""
        self._let_go()
        for one in self._maps.values():
            one.close()

    def _let_go(self) -> None:
        while self._links:
            os.close(self._links.pop())

    def _linked(self, hook: Hook, code: int, group: int) -> int:
        """The link of a hook with this program in it."""
        path = self.directory / LINKS / hook.name if self.directory is not None else None
        found = None if path is None else open_pinned(path)
        if found is not None:
            where = link_info(found)
            if (where.cgroup, where.hook) == (os.fstat(group).st_ino, hook.number):
                exchange(found, code)
                return found
            os.close(found)
        link = attach(code, group, hook.number)
        if path is not None:
            try:
                # The new one serves before the old one ends.
                _end(path)
                pin(link, path)
            except BaseException:
                os.close(link)
                raise
        return link

    def _forget_others(self) -> None:
        """Remove the maps of other layouts, which no program uses any more."""
        if self.directory is None:
            return
        for path in self.directory.iterdir():
            if path.name not in (MAPS, LINKS):
                shutil.rmtree(path, ignore_errors=True)


def served(bpffs: Path) -> dict[Frontend, BackendGroup]:
    """What an agent of this node serves by pinned maps; nothing where there are none.

    Raises BpfRefused.
    """
    directory = bpffs / ROOM / MAPS
    maps: dict[str, Map] = {}
    try:
        for spec in (layout.SERVICES, layout.BACKENDS, layout.MEMBERS):
            found = open_pinned(directory / spec.name)
            if found is None:
                return {}
            maps[spec.name] = Map(spec, found)
        entries = understand(Installation(None, maps).read()).entries
        return {frontend: entry.balance for frontend, entry in entries.items()}
    finally:
        for one in maps.values():
            one.close()


def remove(bpffs: Path) -> bool:
    """Detach and forget what an agent has pinned; whether there was anything. Raises OSError."""
    directory = bpffs / ROOM
    if not directory.is_dir() or not can_pin(directory):
        return False
    # The links first: nobody is to be served from half of the maps.
    for hook in HOOKS:
        _end(directory / LINKS / hook.name)
    shutil.rmtree(directory, ignore_errors=True)
    return True


def _end(path: Path) -> None:
    """End a pinned link, and forget it. Raises OSError."""
    with suppress(BpfRefused):
        link = open_pinned(path)
        if link is not None:
            try:
                detach(link)
            finally:
                os.close(link)
    path.unlink(missing_ok=True)


def _map(name: str, directory: Path | None) -> Map:
    spec = next(one for one in layout.MAPS if one.name == name)
    if directory is None:
        return create_map(spec)
    path = directory / MAPS / name
    found = open_pinned(path)
    if found is not None:
        return Map(spec, found)
    made = create_map(spec)
    pin(made.fd, path)
    return made
