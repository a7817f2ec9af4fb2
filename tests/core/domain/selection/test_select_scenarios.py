"""Pool selection gives the expected result of each scenario in the folder ``scenarios``.

Some keys of an expected selection:

- ``try``: the pools in the order in which an ADD tries the pools;
- ``unnamed``: true if the annotation names no interfaces;
- ``clean``: NICs without a default gateway.
"""

from __future__ import annotations

from typing import Any

import pytest

from core import errors
from core.domain.selection.error_texts import STANDARD_MODE
from core.domain.selection.pool_selection import select
from core.domain.selection.selection_request import FAMILY_NAMES, CandidateVerdict, Selection
from tests.core.domain.selection.scenario_reader import Scenario, scenarios

SCENARIOS = scenarios()
KEYS_OF_SELECTION = {"source", "unnamed", "try", "clean", "rejected", "rules", "notes", "routes"}
KEYS_OF_FAILURE = {"error", "text", "rejected", "details", "subject"}


def test_every_scenario_has_a_unique_title() -> None:
    titles = [scenario.title for scenario in SCENARIOS]

    assert sorted(titles) == sorted(set(titles))


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.title)
def test_the_result_of_a_scenario_is_the_expected_one(scenario: Scenario) -> None:
    if "error" in scenario.expect:
        check_failure(scenario)
    else:
        check_selection(scenario)


def check_selection(scenario: Scenario) -> None:
    expect = scenario.expect
    assert expect.keys() <= KEYS_OF_SELECTION
    selection = run(scenario)

    assert pools_to_try(selection) == expect["try"]
    assert selection.source == expect["source"]
    assert selection.unnamed == expect.get("unnamed", False)
    assert rejections(selection.verdicts) == expect.get("rejected", {})
    nics_without_gateway = [
        demand.interface for demand in selection.demands if demand.clean_gateway
    ]
    assert list(dict.fromkeys(nics_without_gateway)) == expect.get("clean", [])
    assert [f"{note.interface}: {note.text}" for note in selection.notes] == expect.get("notes", [])
    assert [" via ".join(route) for route in selection.routes] == expect.get("routes", [])
    if "rules" in expect:
        rules = {verdict.pool: verdict.rule for verdict in selection.verdicts}
        assert rules == expect["rules"]


def check_failure(scenario: Scenario) -> None:
    expect = scenario.expect
    assert expect.keys() <= KEYS_OF_FAILURE
    with pytest.raises(errors.AllocationError) as caught:
        run(scenario)
    error = caught.value

    assert type(error) is getattr(errors, expect["error"])
    assert error.message == STANDARD_MODE + expect["text"]
    assert error.remedy
    if "rejected" in expect:
        assert rejections(error.verdicts) == expect["rejected"]
    if "details" in expect:
        details = {
            verdict.pool: verdict.detail
            for verdict in error.verdicts
            if isinstance(verdict, CandidateVerdict)
        }
        assert details == expect["details"]
    if "subject" in expect:
        assert error.subject == expect["subject"]
    if type(error) is not errors.AllocationError:
        assert error.sentinel in error.message


def run(scenario: Scenario) -> Selection:
    return select(scenario.request, scenario.facts, scenario.pools, scenario.settings)


def pools_to_try(selection: Selection) -> dict[str, list[str]]:
    return {
        f"{demand.interface} {FAMILY_NAMES[demand.family]}": list(demand.pools)
        for demand in selection.demands
    }


def rejections(verdicts: tuple[object, ...]) -> dict[str, Any]:
    return {
        verdict.pool: verdict.reason
        for verdict in verdicts
        if isinstance(verdict, CandidateVerdict) and not verdict.accepted
    }
