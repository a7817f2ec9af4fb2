"""Loads the BPF programs into the kernel."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping

from core.errors import BpfRefused
from nodeagent.clusterip import map_layout
from nodeagent.clusterip.bpf_programs import PROGRAM_HOOKS, DesiredPrograms, Hook, program
from nodeagent.ebpf import numbers as n
from nodeagent.ebpf.calls import Map, create_map, load_program
from nodeagent.ebpf.instructions import assemble


def load_programs(maps: Mapping[str, Map], desired: DesiredPrograms) -> dict[Hook, int]:
    """Load all programs. The caller closes the descriptors. Raises BpfRefused.

    On older kernels, the programs refuse calls with EPERM instead of ECONNREFUSED.
    """
    try:
        return _load_all(maps, desired)
    except BpfRefused:
        if not desired.econnrefused:
            raise
    return _load_all(maps, desired._replace(econnrefused=False))


def try_loading(desired: DesiredPrograms) -> int:
    """Load all programs without attaching them, to test the kernel. Raises BpfRefused.

    Returns the errno of refused calls: ECONNREFUSED, or EPERM on older kernels.
    """
    maps: dict[str, Map] = {}
    try:
        for spec in map_layout.MAPS:
            maps[spec.name] = create_map(spec._replace(entries_max=1))
        try:
            close_programs(_load_all(maps, desired))
        except BpfRefused:
            close_programs(load_programs(maps, desired))
            return errno.EPERM
        return errno.ECONNREFUSED
    finally:
        for bpf_map in maps.values():
            bpf_map.close()


def close_programs(programs: Mapping[Hook, int]) -> None:
    """Close the descriptors. Attached programs remain in the kernel."""
    for fd in programs.values():
        os.close(fd)


def _load_all(maps: Mapping[str, Map], desired: DesiredPrograms) -> dict[Hook, int]:
    descriptors = {name: bpf_map.fd for name, bpf_map in maps.items()}
    program_fds: dict[Hook, int] = {}
    try:
        for hook in PROGRAM_HOOKS:
            code = assemble(program(hook, desired), descriptors)
            kind = n.BPF_PROG_TYPE_CGROUP_SOCK_ADDR
            program_fds[hook] = load_program(hook.name, kind, hook.number, code)
    except BaseException:
        close_programs(program_fds)
        raise
    return program_fds
