"""A refusal as data: the rule, the object and its field, the message and the remedy.

The admission webhook, ``orbctl apply --dry-run``, ``simulate`` and the real command all show the
same refusals. ``kind`` is the Kubernetes cause type, so that a webhook can answer with it
unchanged.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

RefusalKind = Literal[
    "Invalid", "Forbidden", "NotSupported", "Required", "AlreadyExists", "NotFound", "Internal"
]


class Refusal(NamedTuple):
    """One broken rule.

    ``subject`` is ``Kind/name``, ``field`` a path such as ``spec.ips[0]``, ``rule`` a stable slug.
    """

    kind: RefusalKind
    rule: str
    subject: str
    field: str
    message: str
    remedy: str = ""

    def __str__(self) -> str:
        where = f"{self.subject}: {self.field}: " if self.field else f"{self.subject}: "
        hint = f" ({self.remedy})" if self.remedy else ""
        return f"{where}{self.message}{hint}"
