"""What a cluster says of automatic pools, for everybody who plans them."""

from __future__ import annotations

from typing import NamedTuple

from core.domain.autopools.pool_size import NO_MORE, IpNumber


class AutoPoolSettings(NamedTuple):
    """``enabled``: automatic pools are made. ``default``: the number of a template without one."""

    enabled: bool = True
    default: IpNumber = NO_MORE
    ipv4_enabled: bool = True
    ipv6_enabled: bool = True
