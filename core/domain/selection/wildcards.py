"""Expand the requested pool names: drop disabled families, replace patterns by matching pools.

See docs/reference/pool-selection.md, "Families and wildcards". Matching pools replace a pattern,
sorted by name. Pools that are listed by name, or that an earlier pattern matches, are left out.
Listed names stay, even if the pool does not exist.
"""

from __future__ import annotations

from core.domain.addresses.ip_address import V4, V6, Family
from core.domain.patterns import globs
from core.domain.selection.error_texts import bracketed
from core.domain.selection.pool_catalog import PoolCatalog
from core.domain.selection.selection_request import (
    FAMILY_NAMES,
    Candidates,
    NicPools,
    Note,
    SelectionSettings,
)
from core.errors import AllocationError


def resolve(
    candidates: Candidates, catalog: PoolCatalog, settings: SelectionSettings
) -> Candidates:
    """Expand patterns and drop disabled families. Notes list what was dropped.

    Raises AllocationError for a malformed pattern.
    """
    if all(_is_plain(nic, settings) for nic in candidates.nics):
        return candidates
    notes: list[Note] = []
    nics = tuple(_resolve_nic(nic, catalog, settings, notes) for nic in candidates.nics)
    return candidates._replace(nics=nics, notes=(*candidates.notes, *notes))


def _is_plain(nic: NicPools, settings: SelectionSettings) -> bool:
    lists = list(nic.lists())
    return bool(lists) and all(
        settings.enabled(family) and not any(map(globs.is_pattern, names))
        for family, names in lists
    )


def _resolve_nic(
    nic: NicPools, catalog: PoolCatalog, settings: SelectionSettings, notes: list[Note]
) -> NicPools:
    lists: dict[Family, tuple[str, ...]] = {V4: (), V6: ()}
    for family, names in nic.lists():
        if not settings.enabled(family):
            text = f"{FAMILY_NAMES[family]} is switched off, {bracketed(names)} left out"
            notes.append(Note(nic.interface, text))
        else:
            lists[family] = _expand(nic.interface, family, names, catalog, notes)
    if not nic.ipv4 and not nic.ipv6:
        notes.append(Note(nic.interface, "it names no IPPool"))
    return nic._replace(ipv4=lists[V4], ipv6=lists[V6])


def _expand(
    interface: str,
    family: Family,
    names: tuple[str, ...],
    catalog: PoolCatalog,
    notes: list[Note],
) -> tuple[str, ...]:
    if not any(globs.is_pattern(name) for name in names):
        return names
    listed = {name for name in names if not globs.is_pattern(name)}
    expanded: list[str] = []
    for name in names:
        if not globs.is_pattern(name):
            expanded.append(name)
            continue
        matches = _matching(name, family, catalog)
        if not matches:
            text = f"pattern '{name}' matches no {FAMILY_NAMES[family]} IPPool"
            notes.append(Note(interface, text))
        expanded += [match for match in matches if match not in listed]
        listed.update(matches)
    return tuple(expanded)


def _matching(pattern: str, family: Family, catalog: PoolCatalog) -> tuple[str, ...]:
    try:
        return catalog.matching(pattern, family)
    except globs.BadPattern:
        first = catalog.names[family][0]  # Spiderpool's message names the first pool it compared
        raise AllocationError(
            f"failed to match wildcard: {FAMILY_NAMES[family]} PoolName pattern '{pattern}', "
            f"character '{first}', error: syntax error in pattern",
            subject=f"pattern {pattern}",
            remedy="close each '[' with a ']'; to match a '[' itself, write '\\['",
        ) from None
