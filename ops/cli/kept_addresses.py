"""Describes why an endpoint keeps its addresses, and until when. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from core.domain.events import RecordDefined
from core.domain.evolution import RecordKey
from core.domain.fixed.fixed_address_owners import (
    KEPT_UNTIL,
    FixedSettings,
    RecordOwners,
    kind_of_holder,
)
from core.domain.fixed.owner_validity import validity_of
from core.domain.model import Endpoint

UNTIL_THE_POD_ENDS: Final = (
    "by this Pod until it ends: then a CNI DEL, a GC or a reclaim releases them"
)


def why_kept(endpoint: Endpoint, records: Mapping[RecordKey, RecordDefined]) -> str:
    """The text of the field ``kept``: why, and until when. ``records`` has the owners of Pods."""
    kind = kind_of_holder(endpoint.holder, FixedSettings(ipam_claims=True))
    if kind is None:
        return UNTIL_THE_POD_ENDS
    validity = validity_of(kind, *endpoint.key, RecordOwners(records))
    if validity.state == "invalid":
        return f"no longer needed: {validity.why}; a DEL or `orbctl gc --gone` releases them"
    by = f"by {endpoint.holder}, whatever Pod runs under this name, {KEPT_UNTIL[kind]}"
    if validity.state == "unknown":
        return f"{by}; the log does not record whether that has happened"
    return f"{by}; {validity.why}"
