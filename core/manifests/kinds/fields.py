"""Descriptions of fields, and the structs that several kinds share.

``described`` adds a description, limits and CEL rules to a field of a CRD; the decoder ignores
them. The API server checks values by the CRD. The domain checks all values in every mode.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Final, NamedTuple

from msgspec import Meta, Struct

from core.domain.patterns.labels import LabelSelector, Requirement

API_VERSION: Final = "spiderpool.spidernet.io/v2beta1"
CORE_API_VERSION: Final = "v1"
DISCOVERY_API_VERSION: Final = "discovery.k8s.io/v1"

CEL_RULES: Final = "x-kubernetes-validations"
"""The schema keyword of CEL rules."""

NAMES_MAX: Final = 1024
"""Namespaces, nodes or networks in one object."""

NAME_CHARS_MAX: Final = 253
"""The longest name of a Kubernetes object."""

ROUTES_MAX: Final = 256
ROUTE_CHARS_MAX: Final = 64
"""The longest destination of a route."""

EXPRESSIONS_MAX: Final = 64
"""Requirements of a label selector."""

CONDITIONS_MAX: Final = 16
INT64_MAX: Final = 2**63 - 1


class ValidationRule(NamedTuple):
    """A CEL expression over ``self`` that must hold, and the message if it does not."""

    expression: str
    message: str


def described(description: str, *, rules: Sequence[ValidationRule] = (), **schema: object) -> Meta:
    """Describe a field of a struct. ``schema`` has further OpenAPI keywords."""
    if rules:
        schema[CEL_RULES] = [{"rule": rule.expression, "message": rule.message} for rule in rules]
    return Meta(description=description, extra_json_schema=schema)


Int64 = Annotated[int, Meta(ge=-(2**63), le=INT64_MAX)]


class StrictMetadata(Struct, rename="camel", frozen=True, forbid_unknown_fields=True):
    """Metadata of our kinds. Fields that the API server sets are accepted and ignored."""

    name: str
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None
    namespace: Any = None
    generate_name: Any = None
    self_link: Any = None
    uid: Any = None
    resource_version: Any = None
    generation: Any = None
    creation_timestamp: Any = None
    deletion_timestamp: Any = None
    deletion_grace_period_seconds: Any = None
    finalizers: Any = None
    owner_references: Any = None
    managed_fields: Any = None


class ExpressionSpec(Struct, rename="camel", frozen=True, forbid_unknown_fields=True):
    """One requirement of a label selector."""

    key: Annotated[str, described("The label's key.")]
    operator: Annotated[
        str,
        described("The comparison of the label with values: In, NotIn, Exists or DoesNotExist."),
    ]
    values: Annotated[
        list[str] | None,
        described("The values to compare with; empty for Exists and DoesNotExist."),
    ] = None


class SelectorSpec(Struct, rename="camel", frozen=True, forbid_unknown_fields=True):
    """A Kubernetes label selector."""

    match_labels: Annotated[
        dict[str, str] | None, described("Labels that must exist with exactly these values.")
    ] = None
    match_expressions: Annotated[
        list[ExpressionSpec] | None,
        described("Requirements, all of which must be met.", maxItems=EXPRESSIONS_MAX),
    ] = None


class Condition(Struct, rename="camel", frozen=True):
    """One condition of an object, by the conventions of the Kubernetes API."""

    type: Annotated[
        str,
        described(
            "The type of the condition, such as Ready or Exhausted.", maxLength=316, minLength=1
        ),
    ]
    status: Annotated[
        str,
        described(
            "The status of the condition: True, False or Unknown.",
            enum=["True", "False", "Unknown"],
        ),
    ]
    reason: Annotated[
        str,
        described(
            "The reason, as one word for programs.",
            maxLength=1024,
            pattern="^[A-Za-z][A-Za-z0-9]*$",
        ),
    ]
    message: Annotated[str, described("The reason, as a text for people.", maxLength=32768)]
    last_transition_time: Annotated[
        str, described("The time when status last changed.", format="date-time")
    ]
    observed_generation: Annotated[
        int | None,
        described("The metadata.generation that was observed.", format="int64", minimum=0),
    ] = None


Conditions = Annotated[
    list[Condition] | None,
    described(
        "Conditions of the object, one of each type.",
        maxItems=CONDITIONS_MAX,
        **{"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
    ),
]


def selector_of(spec: SelectorSpec) -> LabelSelector:
    """The selector as a domain value. Checks no rules."""
    expressions = tuple(
        Requirement(item.key, item.operator, tuple(item.values or ()))
        for item in spec.match_expressions or ()
    )
    return LabelSelector(spec.match_labels or {}, expressions)
