"""The programs of the set, handed to the kernel: for maps of an installation, or only to try."""

from __future__ import annotations

import os
from collections.abc import Mapping

from core.errors import BpfRefused
from nodeagent.clusterip import layout
from nodeagent.clusterip.programs import HOOKS, DesiredPrograms, Hook, program
from nodeagent.ebpf import numbers as n
from nodeagent.ebpf.calls import Map, create_map, load_program
from nodeagent.ebpf.instructions import assemble


def load(maps: Mapping[str, Map], wishes: DesiredPrograms) -> dict[Hook, int]:
    """Every program, its descriptor the caller's, in the words that this kernel knows.

    Raises BpfRefused.
    """
    try:
        return _loaded(maps, wishes)
    except BpfRefused:
        if not wishes.says_refused:
            raise
    return _loaded(maps, wishes._replace(says_refused=False))


def trial(wishes: DesiredPrograms) -> bool:
    """Load every program with maps of one entry, attached to nothing.

    Whether refusals are as they are wished for. Raises BpfRefused where it cannot be done at all.
    """
    maps: dict[str, Map] = {}
    try:
        for spec in layout.MAPS:
            maps[spec.name] = create_map(spec._replace(entries_max=1))
        try:
            close(_loaded(maps, wishes))
        except BpfRefused:
            close(load(maps, wishes))
            return False
        return True
    finally:
        for one in maps.values():
            one.close()


def close(programs: Mapping[Hook, int]) -> None:
    """Let go of them; what is attached goes on."""
    for fd in programs.values():
        os.close(fd)


def _loaded(maps: Mapping[str, Map], wishes: DesiredPrograms) -> dict[Hook, int]:
    descriptors = {name: one.fd for name, one in maps.items()}
    loaded: dict[Hook, int] = {}
    try:
        for hook in HOOKS:
            code = assemble(program(hook, wishes), descriptors)
            kind = n.BPF_PROG_TYPE_CGROUP_SOCK_ADDR
            loaded[hook] = load_program(hook.name, kind, hook.number, code)
    except BaseException:
        close(loaded)
        raise
    return loaded
