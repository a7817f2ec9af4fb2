"""The size of an automatic pool, computed in the same way by agents and controllers.

See docs/reference/automatic-pool-rules.md, "Size".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, NamedTuple

from core.domain.autopools.applications import Application, is_built_in, replicas_of
from core.errors import BadInput, WrongInput

NUMBER_MAX: Final = 2**63 - 1

REDUNDANT_NUMBER_KEY: Final = "clusterSubnetAutoPoolDefaultRedundantIPNumber"
"""The configuration key that Spiderpool reads; overrides ``FLEXIBLE_NUMBER_KEY``."""

FLEXIBLE_NUMBER_KEY: Final = "clusterSubnetDefaultFlexibleIPNumber"
"""The key of the same setting in Spiderpool's chart and documentation."""

_INTEGER: Final = re.compile(r"-?[0-9]{1,32}\Z")


class IpNumber(NamedTuple):
    """``5``: five addresses. ``+2`` (flexible): two addresses more than replicas."""

    amount: int
    is_flexible: bool = False

    def __str__(self) -> str:
        return f"+{self.amount}" if self.is_flexible else str(self.amount)


AS_MANY_AS_REPLICAS: Final = IpNumber(0, is_flexible=True)


def read_number(text: str) -> IpNumber:
    """Parse ``ippool-ip-number``; text before a "+" is ignored. Raises BadInput."""
    _, plus, count = text.rpartition("+")
    if text.count("+") > 1:
        raise BadInput(f"{text[:80]!r} has more than one '+'")
    if not _INTEGER.match(count):
        raise BadInput(
            f"{text[:80]!r} must be a number (for example 5) or a plus sign and a number (for"
            " example +2)"
        )
    number = int(count)
    if number < 0:
        raise BadInput(f"{text[:80]!r} is negative")
    if number > NUMBER_MAX:
        raise BadInput(f"{text[:80]!r} is more than {NUMBER_MAX}")
    return IpNumber(number, is_flexible=bool(plus))


def default_number(settings: Mapping[str, object]) -> IpNumber:
    """The cluster's default for ``pool_size``. Raises BadInput; the subject is the key."""
    for key in (REDUNDANT_NUMBER_KEY, FLEXIBLE_NUMBER_KEY):
        value = settings.get(key)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= NUMBER_MAX:
            raise BadInput(f"{key} is not a whole number from 0 to {NUMBER_MAX}", subject=key)
        return IpNumber(value, is_flexible=True)
    return AS_MANY_AS_REPLICAS


def pool_size(application: Application, number: IpNumber | None, default: IpNumber) -> int:
    """The number of addresses of each pool. Raises WrongInput.

    ``number`` None: the template has no annotation ``ippool-ip-number``.
    """
    if number is None and not is_built_in(application.key):
        raise WrongInput(  # Spiderpool's text; +N needs the number of Pods, which is unknown
            f"wrong input, {application} only supports fixed auto-created IPPool IP Number",
            subject=str(application),
            remedy="annotate ipam.spidernet.io/ippool-ip-number in the Pod template with a number"
            " of addresses, such as 5",
        )
    chosen_number = default if number is None else number
    return chosen_number.amount + (replicas_of(application) if chosen_number.is_flexible else 0)


class AutoPoolSettings(NamedTuple):
    """The cluster's settings of automatic pools."""

    enabled: bool = True
    default_number: IpNumber = AS_MANY_AS_REPLICAS
    ipv4_enabled: bool = True
    ipv6_enabled: bool = True
