"""A label selector as it is written -> as the domain has it. Judges nothing."""

from __future__ import annotations

from core.domain.patterns.labels import LabelSelector, Requirement
from core.manifests.kinds.fields import SelectorSpec


def selector_of(spec: SelectorSpec) -> LabelSelector:
    """The same conditions, whether they are well formed or not."""
    expressions = tuple(
        Requirement(one.key, one.operator, tuple(one.values or ()))
        for one in spec.match_expressions or ()
    )
    return LabelSelector(spec.match_labels or {}, expressions)
