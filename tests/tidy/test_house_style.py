"""Every file keeps the rules of ``tests/tidy/rules.py``, except for permitted violations."""

from __future__ import annotations

from functools import cache

import pytest

from tests.tidy.exceptions import PERMITTED_VIOLATIONS
from tests.tidy.rules import HOUSE_RULES, Finding, Rule, banned_words
from tests.tidy.sources import python_sources, text_files


@cache
def findings_of(rule: Rule) -> tuple[Finding, ...]:
    return tuple(finding for file in python_sources() for finding in rule(file))


@pytest.mark.parametrize("rule", HOUSE_RULES, ids=lambda rule: rule.__name__)
def test_every_file_keeps_the_rule(rule: Rule) -> None:
    findings = [
        str(finding)
        for finding in findings_of(rule)
        if (rule.__name__, finding.location) not in PERMITTED_VIOLATIONS
    ]

    assert not findings, f"{rule.__doc__}\n" + "\n".join(findings)


def test_every_permitted_violation_exists_and_has_a_reason() -> None:
    existing = {
        (rule.__name__, finding.location) for rule in HOUSE_RULES for finding in findings_of(rule)
    }

    assert set(PERMITTED_VIOLATIONS) <= existing
    assert all(len(reason.split()) > 3 for reason in PERMITTED_VIOLATIONS.values())


def test_no_document_or_script_leaves_something_for_later() -> None:
    findings = [str(finding) for path, text in text_files() for finding in banned_words(path, text)]

    assert not findings, "\n".join(findings)
