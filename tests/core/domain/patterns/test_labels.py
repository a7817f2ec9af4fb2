"""Label selectors are matched, explained and validated as in Kubernetes."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.domain.patterns.labels import (
    DOES_NOT_EXIST,
    EXISTS,
    IN,
    NOT_IN,
    LabelSelector,
    Requirement,
    explain_mismatch,
    matches,
    problems,
)

KEYS = st.sampled_from(["app", "zone", "example.com/tier"])
VALUES = st.sampled_from(["", "a", "b"])
LABELS = st.dictionaries(KEYS, VALUES, max_size=3)
CHOICES = st.lists(VALUES, min_size=1, max_size=2).map(tuple)
REQUIREMENTS = st.one_of(
    st.builds(Requirement, KEYS, st.sampled_from([IN, NOT_IN]), CHOICES),
    st.builds(Requirement, KEYS, st.sampled_from([EXISTS, DOES_NOT_EXIST]), st.just(())),
)
SELECTORS = st.builds(LabelSelector, LABELS, st.lists(REQUIREMENTS, max_size=3).map(tuple))

Operator = Callable[[str | None, tuple[str, ...]], bool]
OPERATORS: dict[str, Operator] = {
    IN: lambda value, values: value in values,
    NOT_IN: lambda value, values: value not in values,
    EXISTS: lambda value, _: value is not None,
    DOES_NOT_EXIST: lambda value, _: value is None,
}


def selector_of(*requirements: Requirement, **labels: str) -> LabelSelector:
    return LabelSelector(labels, requirements)


@settings(max_examples=300, deadline=None)
@given(SELECTORS, LABELS)
def test_a_selector_matches_when_every_condition_holds(
    selector: LabelSelector, labels: dict[str, str]
) -> None:
    conditions = [Requirement(key, IN, (value,)) for key, value in selector.match_labels.items()]
    conditions += selector.match_expressions
    expected = all(OPERATORS[op](labels.get(key), values) for key, op, values in conditions)

    assert matches(selector, labels) == expected
    assert (explain_mismatch(selector, labels) == "") == expected


@settings(max_examples=100, deadline=None)
@given(SELECTORS)
def test_a_selector_of_good_keys_and_operators_has_no_problems(selector: LabelSelector) -> None:
    assert problems(selector, "spec.podAffinity") == []


@settings(max_examples=50, deadline=None)
@given(LABELS)
def test_an_empty_selector_matches_everything(labels: dict[str, str]) -> None:
    assert LabelSelector().is_empty()
    assert matches(LabelSelector(), labels)


def test_a_selector_with_any_condition_is_not_empty() -> None:
    assert not selector_of(app="a").is_empty()
    assert not selector_of(Requirement("app", EXISTS)).is_empty()


def test_an_absent_label_has_no_value_and_differs_from_an_empty_value() -> None:
    assert matches(selector_of(Requirement("app", NOT_IN, ("a",))), {})
    assert not matches(selector_of(Requirement("app", IN, ("",))), {})
    assert not matches(selector_of(app=""), {})
    assert matches(selector_of(app=""), {"app": ""})


@pytest.mark.parametrize(
    "requirement",
    [
        Requirement("app", "in", ("a",)),
        Requirement("app", operator="", values=("a",)),
        Requirement("app", IN),
        Requirement("app", NOT_IN),
        Requirement("app", EXISTS, ("a",)),
        Requirement("other", DOES_NOT_EXIST, ("a",)),
    ],
)
def test_a_malformed_condition_matches_nothing_and_is_reported(requirement: Requirement) -> None:
    selector = selector_of(requirement)

    assert not matches(selector, {"app": "a"})
    assert explain_mismatch(selector, {"app": "a"}).endswith("matches nothing")
    assert problems(selector, "spec.nodeAffinity") != []


@pytest.mark.parametrize(
    ("selector", "text"),
    [
        (selector_of(app="b"), "'app In (b)' is required, and label app is 'a'"),
        (selector_of(zone="z"), "'zone In (z)' is required, and there is no label zone"),
        (
            selector_of(Requirement("app", NOT_IN, ("a", "b")), app="a"),
            "'app NotIn (a, b)' is required, and label app is 'a'",
        ),
        (
            selector_of(Requirement("app", DOES_NOT_EXIST)),
            "'app DoesNotExist' is required, and label app is 'a'",
        ),
        (
            selector_of(Requirement("zone", EXISTS), Requirement("app", IN, ("x",))),
            "'zone Exists' is required, and there is no label zone",
        ),
    ],
)
def test_the_first_condition_that_fails_is_reported(selector: LabelSelector, text: str) -> None:
    assert explain_mismatch(selector, {"app": "a"}) == text


@pytest.mark.parametrize(
    ("requirement", "expected"),
    [
        (Requirement("app", "Equals", ("a",)), [("Invalid", "operator")]),
        (Requirement("app", IN), [("Required", "values")]),
        (Requirement("app", NOT_IN), [("Required", "values")]),
        (Requirement("app", EXISTS, ("a",)), [("Forbidden", "values")]),
        (Requirement("app", DOES_NOT_EXIST, ("a",)), [("Forbidden", "values")]),
        (Requirement("", EXISTS), [("Invalid", "key"), ("Invalid", "key")]),
        (
            Requirement("app", IN, ("a", "b c", "-")),
            [("Invalid", "values[1]"), ("Invalid", "values[2]")],
        ),
        (
            Requirement("a b", "?", ("c d",)),
            [("Invalid", "operator"), ("Invalid", "key"), ("Invalid", "values[0]")],
        ),
    ],
)
def test_a_problem_has_the_type_and_path_that_kubernetes_reports(
    requirement: Requirement, expected: list[tuple[str, str]]
) -> None:
    selector = selector_of(Requirement("ok", EXISTS), requirement)

    reported = problems(selector, "spec.podAffinity")

    prefix = "spec.podAffinity.matchExpressions[1]."
    assert [(kind, path.removeprefix(prefix)) for kind, path, _ in reported] == expected
    assert all(message for _, _, message in reported)


def test_every_problem_of_match_labels_has_the_path_of_match_labels() -> None:
    selector = LabelSelector({"b c": "d e", "": "ok", "good": "ok"})

    reported = problems(selector, "spec.podAffinity")

    assert {(kind, path) for kind, path, _ in reported} == {
        ("Invalid", "spec.podAffinity.matchLabels")
    }
    assert len(reported) == 4


@pytest.mark.parametrize(
    ("key", "problem_count"),
    [
        ("a", 0),
        ("A_b-c.9", 0),
        ("n" * 63, 0),
        ("example.com/n", 0),
        ("e-1.x/N", 0),
        ("p" * 253 + "/n", 0),
        ("n" * 64, 1),
        ("-n", 1),
        ("n.", 1),
        ("n\u00e9n", 1),
        ("\u0661", 1),
        ("a b", 1),
        ("a\n", 1),
        ("a/b/c", 1),
        ("/n", 1),
        ("Example.com/n", 1),
        ("a..b/n", 1),
        ("-a/n", 1),
        ("p" * 254 + "/n", 1),
        ("", 2),
        ("/", 3),
        ("a/", 2),
        ("-" * 64, 2),
        ("P" * 254 + "/n", 2),
    ],
)
def test_a_key_is_a_short_name_after_an_optional_dns_prefix(key: str, problem_count: int) -> None:
    assert len(problems(selector_of(Requirement(key, EXISTS)), "spec")) == problem_count
    assert len(problems(LabelSelector({key: ""}), "spec")) == problem_count


@pytest.mark.parametrize(
    ("value", "problem_count"),
    [
        *[(value, 0) for value in ("", "a", "v1.2_3-b", "v" * 63)],
        *[(value, 1) for value in (" ", "a b", "-a", "a.", "a/b", "v" * 64, "\u00e9")],
        ("." * 64, 2),
        ("\u00e9" * 32, 2),
    ],
)
def test_a_value_is_empty_or_a_short_name(value: str, problem_count: int) -> None:
    assert len(problems(LabelSelector({"app": value}), "spec")) == problem_count
    assert len(problems(selector_of(Requirement("app", IN, (value,))), "spec")) == problem_count
