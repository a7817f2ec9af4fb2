"""Label selectors with the rules of Kubernetes. An empty selector matches everything.

See docs/reference/admission.md, "SpiderIPPool", rule 4.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final, Literal, NamedTuple, TypeAlias

from core.domain.name_syntax import SUBDOMAIN_CHARS_MAX, is_dns_label, is_name

IN: Final = "In"
NOT_IN: Final = "NotIn"
EXISTS: Final = "Exists"
DOES_NOT_EXIST: Final = "DoesNotExist"
OPERATORS: Final = (IN, NOT_IN, EXISTS, DOES_NOT_EXIST)

NAME_BYTES_MAX: Final = 63
"""The limit of Kubernetes for the name in a label key, without the prefix."""

VALUE_BYTES_MAX: Final = 63

_NAME_SYNTAX: Final = (
    "may have only letters, digits, '-', '_' and '.', and must begin and end with a letter or digit"
)

ProblemKind: TypeAlias = Literal["Invalid", "Required", "Forbidden"]


class Requirement(NamedTuple):
    """One condition on one key. ``operator`` may be invalid."""

    key: str
    operator: str
    values: tuple[str, ...] = ()

    def __str__(self) -> str:
        if self.operator in (EXISTS, DOES_NOT_EXIST) and not self.values:
            return f"{self.key} {self.operator}"
        return f"{self.key} {self.operator} ({', '.join(self.values)})"


class LabelSelector(NamedTuple):
    """A label selector. All conditions must hold."""

    match_labels: Mapping[str, str] = {}
    match_expressions: tuple[Requirement, ...] = ()

    def is_empty(self) -> bool:
        return not self.match_labels and not self.match_expressions


class LabelProblem(NamedTuple):
    """A validation error. ``kind``: the error type of Kubernetes."""

    kind: ProblemKind
    path: str
    message: str


def matches(selector: LabelSelector, labels: Mapping[str, str]) -> bool:
    """Whether ``labels`` meet every condition. An invalid condition is never met."""
    return _first_unmet(selector, labels) is None


def explain_mismatch(selector: LabelSelector, labels: Mapping[str, str]) -> str:
    """The first unmet condition and the actual value; "": all are met."""
    unmet = _first_unmet(selector, labels)
    if unmet is None:
        return ""
    if not _is_well_formed(unmet):
        return f"'{unmet}' is not a valid condition and matches nothing"
    if unmet.key not in labels:
        return f"'{unmet}' is required, and there is no label {unmet.key}"
    return f"'{unmet}' is required, and label {unmet.key} is '{labels[unmet.key]}'"


def problems(selector: LabelSelector, path: str) -> list[LabelProblem]:
    """The errors of a selector. ``path``: the field of the selector."""
    faults = []
    for key, value in sorted(selector.match_labels.items()):
        texts = [*key_faults(key), *_value_faults(value)]
        faults += [LabelProblem("Invalid", f"{path}.matchLabels", text) for text in texts]
    for index, requirement in enumerate(selector.match_expressions):
        faults += _requirement_problems(requirement, f"{path}.matchExpressions[{index}]")
    return faults


def key_faults(key: str) -> Iterator[str]:
    """The errors of a qualified name: a label key, or the name of an extended resource."""
    prefix, slash, name = key.rpartition("/")
    if "/" in prefix:
        yield f"key '{key}' has more than one '/'"
        return
    if slash and not prefix:
        yield f"key '{key}' has nothing before its '/'"
    elif slash:
        yield from _subdomain_faults(key, prefix)
    if not name:
        yield f"key '{key}' has an empty name"
    elif _byte_length(name) > NAME_BYTES_MAX:
        yield f"key '{key}' has a name of more than {NAME_BYTES_MAX} bytes"
    if not is_name(name):
        yield f"key '{key}' {_NAME_SYNTAX}"


def _first_unmet(selector: LabelSelector, labels: Mapping[str, str]) -> Requirement | None:
    for key, value in selector.match_labels.items():
        if labels.get(key) != value:
            return Requirement(key, IN, (value,))
    for requirement in selector.match_expressions:
        if not _is_met(requirement, labels):
            return requirement
    return None


def _is_met(requirement: Requirement, labels: Mapping[str, str]) -> bool:
    if not _is_well_formed(requirement):
        return False
    key, operator, values = requirement
    if operator == IN:
        return key in labels and labels[key] in values
    if operator == NOT_IN:
        return key not in labels or labels[key] not in values
    return (key in labels) == (operator == EXISTS)


def _is_well_formed(requirement: Requirement) -> bool:
    if requirement.operator in (IN, NOT_IN):
        return bool(requirement.values)
    return requirement.operator in (EXISTS, DOES_NOT_EXIST) and not requirement.values


def _requirement_problems(requirement: Requirement, path: str) -> Iterator[LabelProblem]:
    key, operator, values = requirement
    if operator not in OPERATORS:
        message = f"'{operator}' is not one of {', '.join(OPERATORS)}"
        yield LabelProblem("Invalid", f"{path}.operator", message)
    elif not _is_well_formed(requirement) and values:
        yield LabelProblem("Forbidden", f"{path}.values", f"operator {operator} takes no values")
    elif not _is_well_formed(requirement):
        yield LabelProblem("Required", f"{path}.values", f"operator {operator} needs a value")
    for text in key_faults(key):
        yield LabelProblem("Invalid", f"{path}.key", text)
    for index, value in enumerate(values):
        for text in _value_faults(value):
            yield LabelProblem("Invalid", f"{path}.values[{index}]", text)


def _subdomain_faults(key: str, prefix: str) -> Iterator[str]:
    if _byte_length(prefix) > SUBDOMAIN_CHARS_MAX:
        yield f"key '{key}' has a prefix of more than {SUBDOMAIN_CHARS_MAX} bytes"
    if not all(is_dns_label(part) for part in prefix.split(".")):
        yield f"key '{key}' has a prefix that is not a DNS name in lower case"


def _value_faults(value: str) -> Iterator[str]:
    if _byte_length(value) > VALUE_BYTES_MAX:
        yield f"value '{value}' has more than {VALUE_BYTES_MAX} bytes"
    if value and not is_name(value):
        yield f"value '{value}' {_NAME_SYNTAX}"


def _byte_length(text: str) -> int:
    return len(text.encode("utf-8", "replace"))
