"""Records of Pods, Namespaces and Nodes: what operators say in standalone mode."""

from __future__ import annotations

import pytest

from core.domain.commands import ApplyRecord, DeleteRecord
from core.domain.decisions import decide
from core.domain.events import RecordDefined, RecordDeleted
from tests.decisions.samples import EMPTY, causes, refusals

WEB = RecordDefined("Pod", "shop", "web-0", {"app": "web"}, {}, "StatefulSet", "web", "apps/v1")
CONFIGURATION = EMPTY._replace(records={("Pod", "shop", "web-0"): WEB})


@pytest.mark.parametrize(
    "record",
    [
        WEB,
        RecordDefined("Pod", "shop", "Name_of.a-runtime"),
        RecordDefined("Namespace", "", "shop", {"team": "a"}),
        RecordDefined("Node", "", "node-1.example.org"),
    ],
)
def test_a_record_is_its_own_event(record: RecordDefined) -> None:
    assert decide(EMPTY, ApplyRecord(record), {}) == (record,)


def test_an_unchanged_record_is_no_event_and_a_changed_one_is() -> None:
    changed = WEB._replace(labels={})

    assert decide(CONFIGURATION, ApplyRecord(WEB), {}) == ()
    assert decide(CONFIGURATION, ApplyRecord(changed), {}) == (changed,)


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        (WEB._replace(kind="Secret"), [("NotSupported", "kind")]),
        (WEB._replace(namespace=""), [("Invalid", "metadata.namespace")]),
        (WEB._replace(name="a/b"), [("Invalid", "metadata.name")]),
        (WEB._replace(name="-a", namespace="a b"), [
            ("Invalid", "metadata.name"), ("Invalid", "metadata.namespace"),
        ]),
        (WEB._replace(name="a" * 254), [("Invalid", "metadata.name")]),
        (RecordDefined("Node", "shop", "node-1"), [("Forbidden", "metadata.namespace")]),
        (WEB._replace(labels={"a": "x" * 65_536}), [("Invalid", "metadata.labels")]),
        (WEB._replace(annotations={"a": "x" * 262_144}), [("Invalid", "metadata.annotations")]),
        (WEB._replace(owner_name="x" * 400_000), [("Invalid", "")]),
    ],
)  # fmt: skip
def test_what_cannot_be_kept_is_refused(
    record: RecordDefined, expected: list[tuple[str, str]]
) -> None:
    assert causes(EMPTY, ApplyRecord(record)) == expected


def test_a_record_is_deleted_by_kind_namespace_and_name() -> None:
    command = DeleteRecord("Pod", "shop", "web-0")

    assert decide(CONFIGURATION, command, {}) == (RecordDeleted("Pod", "shop", "web-0"),)


def test_an_unknown_record_is_not_found() -> None:
    (refusal,) = refusals(CONFIGURATION, DeleteRecord("Node", "", "web-0"))

    assert (refusal.kind, refusal.subject) == ("NotFound", "Node/web-0")
