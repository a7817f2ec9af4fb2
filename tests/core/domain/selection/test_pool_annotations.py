"""JSON in annotations is read as Spiderpool reads it. Errors name the position in the text."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.domain.request_facts import PodFacts
from core.domain.selection import jsontext
from core.domain.selection.pool_annotations import POD_IPPOOLS, read_ippools
from core.domain.selection.selection_request import ADDRESSES_MAX, NICS_MAX
from core.errors import BadInput, WrongInput


def refusal(document: str) -> str:
    with pytest.raises(BadInput) as caught:
        jsontext.parse(document)
    return caught.value.message


def test_keys_are_lower_case_and_the_last_of_equal_keys_wins() -> None:
    assert jsontext.parse('{"A": 1, "a": {"B": null}}') == {"a": {"b": None}}


def test_the_position_of_a_wrong_character_is_reported() -> None:
    assert refusal('{"a" 1}') == "invalid character '1' at position 5: expecting ':' delimiter"


@pytest.mark.parametrize("document", ["", "  ", '{"a"', '"abc', "[1,"])
def test_a_truncated_document_is_reported_as_truncated(document: str) -> None:
    assert refusal(document) == "unexpected end of JSON input"


@pytest.mark.parametrize("document", ["NaN", "[Infinity]", "-Infinity"])
def test_nan_and_infinity_are_refused(document: str) -> None:
    assert refusal(document).endswith("is not JSON")


def test_text_after_the_document_is_refused() -> None:
    assert refusal("[] []") == "invalid character '[' at position 3: extra data"


def test_a_document_that_is_too_long_is_refused() -> None:
    document = " " * jsontext.JSON_CHARS_MAX + "1"

    assert refusal(document) == "JSON has 262145 characters, more than 262144"


def test_a_document_that_is_nested_too_deeply_is_refused() -> None:
    assert refusal("[" * 200_000) == "JSON is nested too deeply"


def test_the_value_of_an_unused_key_can_be_a_number_of_any_length() -> None:
    assert jsontext.members(jsontext.parse('{"x": ' + "9" * 10_000 + "}"), "value").keys() == {"x"}


def test_a_lone_surrogate_becomes_a_question_mark() -> None:
    text = jsontext.text(jsontext.parse('"a\\ud800\\u00e9"'), "name")

    assert text == "a?é"
    assert text.encode()


@given(st.text())
def test_any_text_is_read_or_refused(document: str) -> None:
    try:
        value = jsontext.parse(document)
    except BadInput:
        return

    assert json.loads(json.dumps(value)) == value


def test_more_nics_than_fit_into_one_transaction_are_refused() -> None:
    items = [{"interface": f"net{index}", "ipv4": ["a"]} for index in range(NICS_MAX + 1)]
    pod = PodFacts("shop", "web-0", "uid-1", annotations={POD_IPPOOLS: json.dumps(items)})

    with pytest.raises(WrongInput, match="25 items, at most 24 NICs are possible"):
        read_ippools(pod, "net1")


def test_more_addresses_than_fit_into_one_transaction_are_refused() -> None:
    items = [{"ipv4": ["a"], "ipv6": ["b"]}] * (ADDRESSES_MAX // 2 + 1)
    pod = PodFacts("shop", "web-0", "uid-1", annotations={POD_IPPOOLS: json.dumps(items)})

    with pytest.raises(WrongInput, match="26 addresses, at most 24 can be claimed together"):
        read_ippools(pod, "eth0")


def test_as_many_nics_as_fit_into_one_transaction_are_read() -> None:
    items = [{"ipv4": ["a"]}] * NICS_MAX
    pod = PodFacts("shop", "web-0", "uid-1", annotations={POD_IPPOOLS: json.dumps(items)})

    assert len(read_ippools(pod, "eth0").nics) == NICS_MAX
