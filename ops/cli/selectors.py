"""Selects and sorts objects by their manifests, as kubectl does. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from core.domain.patterns.labels import (
    DOES_NOT_EXIST,
    EXISTS,
    IN,
    NOT_IN,
    LabelSelector,
    Requirement,
    matches,
    problems,
)
from core.errors import BadInput
from ops.cli.jsonpath import find, text_of
from ops.cli.output import ObjectListing

LABEL_REMEDY: Final = "write 'app=web', 'app!=web', 'app in (web,db)', 'app' or '!app'"

_SET: Final = re.compile(r"\s*([^\s=!,()]+)\s+(in|notin)\s*\(([^()]*)\)\s*\Z")
_EQUAL: Final = re.compile(r"\s*([^\s=!,()]+)\s*(==|=|!=)\s*([^\s=!,()]*)\s*\Z")
_EXISTS: Final = re.compile(r"\s*(!?)\s*([^\s=!,()]+)\s*\Z")
_FIELD: Final = re.compile(r"\s*([^=!]+?)\s*(==|=|!=)\s*(.*?)\s*\Z")


class FieldRequirement(NamedTuple):
    """A field must have ``value``; if ``negated``, it must not."""

    path: str
    value: str
    negated: bool


class Selectors(NamedTuple):
    """Label and field selectors, and a sort order. An empty ``sort_by`` keeps the order."""

    labels: LabelSelector = LabelSelector()
    fields: tuple[FieldRequirement, ...] = ()
    sort_by: str = ""

    @property
    def is_empty(self) -> bool:
        """Whether no option is set."""
        return self.labels.is_empty() and not self.fields and not self.sort_by

    def apply(self, listing: ObjectListing) -> ObjectListing:
        """The selected objects, sorted. Raises BadInput."""
        selected_indexes = [
            index for index, manifest in enumerate(listing.manifests) if self._selects(manifest)
        ]
        if self.sort_by:
            selected_indexes.sort(
                key=lambda index: _sort_key(self.sort_by, listing.manifests[index])
            )
        return listing._replace(
            rows=[listing.rows[index] for index in selected_indexes],
            names=[listing.names[index] for index in selected_indexes],
            manifests=[listing.manifests[index] for index in selected_indexes],
        )

    def _selects(self, manifest: Mapping[str, Any]) -> bool:
        labels = manifest.get("metadata", {}).get("labels") or {}
        return matches(self.labels, labels) and all(
            (field.value in map(text_of, find(field.path, manifest) or [""])) != field.negated
            for field in self.fields
        )


def read_selectors(labels: str, fields: str, sort_by: str) -> Selectors:
    """Parse the options; an option that is not set is "". Raises BadInput."""
    return Selectors(_label_selector(labels), _field_selector(fields), sort_by)


def _label_selector(text: str) -> LabelSelector:
    """Parse a selector such as ``app=web,tier!=db,env in (a,b),!canary``. Raises BadInput."""
    parts = re.split(r",(?![^()]*\))", text) if text.strip() else []
    selector = LabelSelector(match_expressions=tuple(_requirement(part) for part in parts))
    for problem in problems(selector, "selector"):
        raise BadInput(
            f"-l {text[:200]}: {problem.message}",
            subject="--selector",
            remedy=LABEL_REMEDY,
        )
    return selector


def _requirement(text: str) -> Requirement:
    if match := _SET.match(text):
        values = tuple(value.strip() for value in match[3].split(","))
        return Requirement(match[1], IN if match[2] == "in" else NOT_IN, values)
    if match := _EQUAL.match(text):
        return Requirement(match[1], NOT_IN if match[2] == "!=" else IN, (match[3],))
    if match := _EXISTS.match(text):
        return Requirement(match[2], DOES_NOT_EXIST if match[1] else EXISTS)
    raise BadInput(
        f"-l: {text[:64]!r} is not a label selector",
        subject="--selector",
        remedy=LABEL_REMEDY,
    )


def _field_selector(text: str) -> tuple[FieldRequirement, ...]:
    requirements = []
    for part in text.split(",") if text.strip() else ():
        match = _FIELD.match(part)
        if match is None:
            raise BadInput(
                f"--field-selector: {part[:64]!r} is not a field selector",
                subject="--field-selector",
                remedy="write spec.ipVersion=4 or metadata.name!=blue",
            )
        requirements.append(FieldRequirement(match[1], match[3], negated=match[2] == "!="))
    return tuple(requirements)


def _sort_key(path: str, manifest: object) -> tuple[int, float, str]:
    """Sorts objects without the field first, then numbers, then texts."""
    values = find(path, manifest)
    if not values:
        return 0, 0.0, ""
    value = values[0]
    if isinstance(value, int | float):
        return 1, float(value), ""
    return 2, 0.0, text_of(value)
