"""Fields with addresses, and their CEL rules.

CEL's address functions reject IPv4-mapped addresses (``::ffff:10.0.0.1``), which are IPv4 here
(docs/reference/admission.md, "Addresses and ranges"). So every rule accepts a text with
``ffff:``, which only ``core.domain`` checks. CEL cannot compare addresses, so only ``core.domain``
detects reversed ranges and overlaps.
"""

from __future__ import annotations

from typing import Annotated, Final

from msgspec import Struct

from core.manifests.kinds.fields import (
    ROUTE_CHARS_MAX,
    ROUTES_MAX,
    Int64,
    ValidationRule,
    described,
)

ITEMS_MAX: Final = 8192
"""Items of ``ips`` or ``excludeIPs``; an item may be a range of any size."""

ITEM_CHARS_MAX: Final = 91
"""Two addresses in their longest form and a hyphen."""

ADDRESS_CHARS_MAX: Final = 45
CIDR_CHARS_MAX: Final = 49

ITEM_PATTERN: Final = "^[0-9A-Fa-f:.]+(-[0-9A-Fa-f:.]+)?$"
MATCHES_MAPPED: Final = "matches('(?i)ffff:')"
"""CEL: a method call that is true if its receiver is an IPv4-mapped text."""


def is_address(text: str) -> str:
    """CEL: whether ``text`` is an address; true for all IPv4-mapped texts."""
    return f"(isIP({text}) || {text}.{MATCHES_MAPPED})"


def ends_of(item: str) -> tuple[str, str]:
    """CEL: the first and last address of ``item``. A single address is both."""
    return f"{item}.split('-')[0]", f"{item}.split('-')[{item}.split('-').size() - 1]"


def for_both_ends(item: str, rule: str) -> str:
    """CEL: whether ``rule`` holds for both ends of an item; ``{0}`` is an end."""
    return " && ".join(f"({rule.format(end)})" for end in ends_of(item))


ITEM_RULE: Final = ValidationRule(
    for_both_ends("self", "isIP({0}) || {0}." + MATCHES_MAPPED),
    "must be an address or a range of two addresses, such as 10.6.0.10-10.6.0.20",
)
Item = Annotated[
    str,
    described(
        "An address, or a range of addresses as first-last.",
        rules=(ITEM_RULE,),
        maxLength=ITEM_CHARS_MAX,
        pattern=ITEM_PATTERN,
    ),
]
SUBNET_RULES: Final = (
    ValidationRule(
        "isCIDR(self) && string(cidr(self).masked()) == self",
        "must be a CIDR in canonical form, host bits zero, such as 10.6.0.0/16",
    ),
    ValidationRule("self == oldSelf", "is immutable: make a new object"),
)
GATEWAY_RULE: Final = ValidationRule(f"self == '' || {is_address('self')}", "must be an address")
DEFAULT_ROUTE_RULE: Final = ValidationRule(
    "!(self in ['0.0.0.0/0', '::/0'])", "must not be the default route: use gateway"
)

FAMILY_RULE: Final = ValidationRule(
    "!has(self.ipVersion) || !isCIDR(self.subnet)"
    " || cidr(self.subnet).ip().family() == self.ipVersion",
    "subnet must be of the IP version that ipVersion names",
)
IMMUTABLE_FAMILY_RULE: Final = ValidationRule(
    "!has(oldSelf.ipVersion) || !has(self.ipVersion) || self.ipVersion == oldSelf.ipVersion",
    "ipVersion is immutable: make a new object",
)


def _all_in_subnet(field: str) -> ValidationRule:
    is_inside = "!isIP({0}) || cidr(self.subnet).containsIP({0})"
    return ValidationRule(
        f"!has(self.{field}) || !isCIDR(self.subnet)"
        f" || self.{field}.all(item, {for_both_ends('item', is_inside)})",
        f"{field} must lie in subnet",
    )


POOL_AND_SUBNET_RULES: Final = (
    FAMILY_RULE,
    IMMUTABLE_FAMILY_RULE,
    _all_in_subnet("ips"),
    _all_in_subnet("excludeIPs"),
    ValidationRule(
        "!has(self.gateway) || !isIP(self.gateway) || !isCIDR(self.subnet)"
        " || cidr(self.subnet).containsIP(self.gateway)",
        "gateway must lie in subnet",
    ),
    ValidationRule(
        "!has(self.routes) || !isCIDR(self.subnet) || self.routes.all(route,"
        " !isIP(route.gw) || cidr(self.subnet).containsIP(route.gw))",
        "the gw of every route must lie in subnet",
    ),
    ValidationRule(
        "!has(self.routes) || !isCIDR(self.subnet) || self.routes.all(route, !isCIDR(route.dst)"
        " || cidr(route.dst).ip().family() == cidr(self.subnet).ip().family())",
        "the dst of every route must be of the family of subnet",
    ),
)
"""The rules that the API server can check without reading another object.

See docs/reference/admission.md, "SpiderIPPool", rules 1 to 3.
"""


class RouteSpec(Struct, rename="camel", frozen=True, forbid_unknown_fields=True):
    """A route of a pool."""

    dst: Annotated[
        str,
        described(
            "The destination as a CIDR, not a default route.",
            rules=(DEFAULT_ROUTE_RULE,),
            maxLength=ROUTE_CHARS_MAX,
        ),
    ]
    gw: Annotated[
        str,
        described(
            "The next hop, an address inside the subnet.",
            rules=(ValidationRule(is_address("self"), "must be an address"),),
            maxLength=ADDRESS_CHARS_MAX,
        ),
    ]


IpVersion = Annotated[
    Int64 | None,
    described(
        "The IP version, 4 or 6. Default: the version of the addresses.",
        enum=[4, 6],
        format="int64",
    ),
]
SubnetText = Annotated[
    str,
    described(
        "The CIDR of all addresses, in canonical form, such as 10.6.0.0/16.",
        rules=SUBNET_RULES,
        maxLength=CIDR_CHARS_MAX,
    ),
]
Gateway = Annotated[
    str | None,
    described(
        "The default gateway of the interface. It must not be one of the addresses to allocate.",
        rules=(GATEWAY_RULE,),
        maxLength=ADDRESS_CHARS_MAX,
    ),
]
Ips = Annotated[
    list[Item] | None,
    described("The addresses that can be allocated.", maxItems=ITEMS_MAX),
]
ExcludedIps = Annotated[
    list[Item] | None,
    described("Addresses of ips that are not allocated.", maxItems=ITEMS_MAX),
]
Routes = Annotated[
    list[RouteSpec] | None,
    described("Routes in addition to the default route.", maxItems=ROUTES_MAX),
]
