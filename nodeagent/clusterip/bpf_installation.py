"""BPF maps, programs and links in the kernel. All calls block: use a worker thread.

With a bpffs, maps and links are pinned: ClusterIPs are served while no agent runs, and the next
agent keeps the maps' contents. Without a bpffs, maps and links end with the agent.

    <bpffs>/orbweaver/v1/<map>      maps of layout version 1; other versions are removed
    <bpffs>/orbweaver/links/<hook>  links
"""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Final, Self

from core.errors import BpfRefused, DatapathError
from nodeagent.clusterip import map_layout
from nodeagent.clusterip.bpf_programs import PROGRAM_HOOKS, DesiredPrograms, Hook
from nodeagent.clusterip.frontends import BackendGroup, Frontend
from nodeagent.clusterip.map_plan import MapPlan, StoredMaps, contents_of
from nodeagent.clusterip.pod_cgroups import is_in_bpffs
from nodeagent.clusterip.program_loader import close_programs, load_programs
from nodeagent.ebpf.calls import (
    Map,
    MapSpec,
    attach,
    create_map,
    detach,
    link_info,
    open_pinned,
    pin,
    replace_program,
)

PIN_DIRECTORY: Final = "orbweaver"
LINKS_DIRECTORY: Final = "links"
MAPS_DIRECTORY: Final = f"v{map_layout.VERSION}"


class Installation:
    """The maps and links of one agent. ``directory`` None: maps and links are not pinned."""

    def __init__(self, directory: Path | None, maps: dict[str, Map]) -> None:
        self.directory = directory
        self._maps = maps
        self._links: list[int] = []

    @classmethod
    def open(cls, bpffs: Path) -> Self:
        """Open the pinned maps, or create them. Raises BpfRefused, DatapathError."""
        directory = bpffs / PIN_DIRECTORY if is_in_bpffs(bpffs) else None
        maps: dict[str, Map] = {}
        installation = cls(directory, maps)
        try:
            if directory is not None:
                (directory / MAPS_DIRECTORY).mkdir(parents=True, exist_ok=True, mode=0o700)
                (directory / LINKS_DIRECTORY).mkdir(exist_ok=True, mode=0o700)
            for spec in map_layout.MAPS:
                maps[spec.name] = _pinned_or_new_map(spec, directory)
        except OSError as error:
            installation.close()
            raise DatapathError(
                f"cannot create {error.filename} for the maps of Services: {error.strerror}",
                subject=str(bpffs),
                remedy=f"mount a bpffs at {bpffs} that the agent can write",
            ) from None
        except BpfRefused:
            installation.close()
            raise
        return installation

    @property
    def is_pinned(self) -> bool:
        """Whether maps and links stay when the agent ends."""
        return self.directory is not None

    def read(self) -> StoredMaps:
        """The contents of the maps. Raises BpfRefused."""
        services, backends, members = (
            self._maps[spec.name].items()
            for spec in (map_layout.SERVICES, map_layout.BACKENDS, map_layout.MEMBERS)
        )
        return StoredMaps(
            {
                map_layout.unpack_frontend(key): map_layout.FrontendHead(
                    *map_layout.HEAD.unpack(value)
                )
                for key, value in services
            },
            {
                map_layout.Slot(*map_layout.SLOT.unpack(key)): map_layout.unpack_backend(value)
                for key, value in backends
            },
            frozenset(map_layout.unpack_member(key) for key, _ in members),
        )

    def write(self, plan: MapPlan) -> None:
        """Write a plan. After BpfRefused, the contents of the maps are unknown."""
        services, backends, members = (
            self._maps[spec.name]
            for spec in (map_layout.SERVICES, map_layout.BACKENDS, map_layout.MEMBERS)
        )
        for slot in plan.remove_orphaned_backends:
            backends.remove(map_layout.SLOT.pack(*slot))
        for member in plan.remove_orphaned_members:
            members.remove(map_layout.pack_member(member))
        for slot, backend in plan.put_backends.items():
            backends.put(map_layout.SLOT.pack(*slot), map_layout.pack_backend(backend))
        for member in plan.put_members:
            members.put(map_layout.pack_member(member), map_layout.NOTHING)
        for frontend in plan.remove_services:
            services.remove(map_layout.pack_frontend(frontend))
        for frontend, head in plan.put_services.items():
            services.put(map_layout.pack_frontend(frontend), map_layout.HEAD.pack(*head))
        for slot in plan.remove_backends:
            backends.remove(map_layout.SLOT.pack(*slot))
        for member in plan.remove_members:
            members.remove(map_layout.pack_member(member))

    def attach(self, cgroup: Path, desired: DesiredPrograms) -> None:
        """Attach the programs to a control group. Raises BpfRefused, DatapathError."""
        programs = load_programs(self._maps, desired)
        try:
            cgroup_fd = os.open(cgroup, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                self._close_links()
                for hook, program_fd in programs.items():
                    self._links.append(self._link(hook, program_fd, cgroup_fd))
            finally:
                os.close(cgroup_fd)
            self._remove_other_layouts()
        except OSError as error:
            text = f"cannot attach the programs of Services to control group {cgroup}: {error}"
            remedy = (
                "check that the control group exists and is of version 2"
                " (orbweaver.clusterIP.cgroup)"
            )
            raise DatapathError(text, subject=str(cgroup), remedy=remedy) from None
        finally:
            close_programs(programs)

    def is_attached(self, cgroup: Path) -> bool:
        """Whether all hooks are attached to this control group."""
        if len(self._links) < len(PROGRAM_HOOKS):
            return False
        with suppress(OSError, BpfRefused):
            cgroup_id = cgroup.stat().st_ino
            return all(link_info(link).cgroup == cgroup_id for link in self._links)
        return False

    def close(self) -> None:
        """Close all descriptors; pinned maps and links remain."""
        self._close_links()
        for bpf_map in self._maps.values():
            bpf_map.close()

    def _close_links(self) -> None:
        while self._links:
            os.close(self._links.pop())

    def _link(self, hook: Hook, program_fd: int, cgroup_fd: int) -> int:
        """Return the link's descriptor. A pinned link of this hook and control group is reused."""
        path = self.directory / LINKS_DIRECTORY / hook.name if self.directory is not None else None
        pinned_fd = None if path is None else open_pinned(path)
        if pinned_fd is not None:
            try:
                info = link_info(pinned_fd)
                if (info.cgroup, info.hook) == (os.fstat(cgroup_fd).st_ino, hook.number):
                    replace_program(pinned_fd, program_fd)  # replaces the program atomically
                    return pinned_fd
            except BaseException:
                os.close(pinned_fd)
                raise
            os.close(pinned_fd)
        link = attach(program_fd, cgroup_fd, hook.number)
        if path is not None:
            try:
                # The new link must be attached before the old link is detached.
                _end_link(path)
                pin(link, path)
            except BaseException:
                os.close(link)
                raise
        return link

    def _remove_other_layouts(self) -> None:
        """Remove maps of other layout versions. Call it when all links have the new programs."""
        if self.directory is None:
            return
        for path in self.directory.iterdir():
            if path.name not in (MAPS_DIRECTORY, LINKS_DIRECTORY):
                shutil.rmtree(path, ignore_errors=True)


def served_frontends(bpffs: Path) -> dict[Frontend, BackendGroup]:
    """The frontends in the pinned maps; empty if no maps are pinned. Raises BpfRefused."""
    directory = bpffs / PIN_DIRECTORY / MAPS_DIRECTORY
    maps: dict[str, Map] = {}
    try:
        for spec in (map_layout.SERVICES, map_layout.BACKENDS, map_layout.MEMBERS):
            pinned_fd = open_pinned(directory / spec.name)
            if pinned_fd is None:
                return {}
            maps[spec.name] = Map(spec, pinned_fd)
        entries = contents_of(Installation(None, maps).read()).entries
        return {frontend: entry.backend_group for frontend, entry in entries.items()}
    finally:
        for bpf_map in maps.values():
            bpf_map.close()


def remove_pinned_objects(bpffs: Path) -> bool:
    """Remove pinned links and maps. Return False if there were none. Raises OSError."""
    directory = bpffs / PIN_DIRECTORY
    if not directory.is_dir() or not is_in_bpffs(directory):
        return False
    # Remove the links first, so that no program reads half-removed maps.
    for hook in PROGRAM_HOOKS:
        _end_link(directory / LINKS_DIRECTORY / hook.name)
    shutil.rmtree(directory, ignore_errors=True)
    return True


def _end_link(path: Path) -> None:
    with suppress(BpfRefused):
        link = open_pinned(path)
        if link is not None:
            try:
                detach(link)
            finally:
                os.close(link)
    path.unlink(missing_ok=True)


def _pinned_or_new_map(spec: MapSpec, directory: Path | None) -> Map:
    if directory is None:
        return create_map(spec)
    path = directory / MAPS_DIRECTORY / spec.name
    pinned_fd = open_pinned(path)
    if pinned_fd is not None:
        return Map(spec, pinned_fd)
    new_map = create_map(spec)
    try:
        pin(new_map.fd, path)
    except BaseException:
        new_map.close()
        raise
    return new_map
