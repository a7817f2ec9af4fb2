"""JSON is written exactly as Spiderpool, a Go program, writes it.

See docs/reference/cni-configuration.md, "NetworkAttachmentDefinition".
"""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import BadInput
from core.manifests.networks.chain import chain_item
from core.manifests.networks.gojson import dumps, loads, sorted_keys


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1.50", "1.5"),
        ("1e3", "1000"),
        ("12345678901234567890", "12345678901234567000"),
        ("-0.0", "-0"),
        ("0", "0"),
        ("1e20", "100000000000000000000"),
        ("1e21", "1e+21"),
        ("1.25e30", "1.25e+30"),
        ("1e-6", "0.000001"),
        ("1e-7", "1e-7"),
        ("-2.5e-9", "-2.5e-9"),
        ("100", "100"),
    ],
)
def test_numbers_are_written_as_go_writes_a_float64(text: str, expected: str) -> None:
    assert dumps(loads(text)) == expected


def test_only_html_characters_and_line_separators_are_escaped() -> None:
    assert dumps(loads('"<a>&é\\u2028\\u2029"')) == '"\\u003ca\\u003e\\u0026é\\u2028\\u2029"'


def test_a_lone_surrogate_becomes_the_replacement_character() -> None:
    text = '{"\\ud800":1,"\\udfff":["a\\ud800","\\udc00b","\\ud83d\\ude00"]}'
    assert dumps(loads(text)).encode().decode() == '{"\ufffd":["a\ufffd","\ufffdb","\U0001f600"]}'


def test_keys_are_sorted_at_every_level_and_the_last_duplicate_key_wins() -> None:
    assert dumps(chain_item('{"type":"x","b":{"z":1,"a":[{"d":1,"c":2}]},"b2":1,"b2":2}')) == (
        '{"b":{"a":[{"c":2,"d":1}],"z":1},"b2":2,"type":"x"}'
    )


@pytest.mark.parametrize(
    "text",
    [
        *("", "[1]", "1", '"x"', "{", '{"type":""}', '{"name":"x"}', '{"type":1}'),
        *('{"type":"x","name":1}', '{"type":"x","capabilities":{"a":1}}'),
        *('{"type":"x","ipam":[]}', '{"type":"x","ipam":{"type":1}}', '{"type":"x","dns":1}'),
        *('{"type":"x","n":NaN}', '{"type":"x","n":1e999}', '{"type":"x","n":' + "[" * 9999),
    ],
)
def test_json_that_is_not_a_plugin_is_refused(text: str) -> None:
    with pytest.raises(BadInput):
        chain_item(text)


def test_the_keys_of_a_plugin_match_in_any_case() -> None:
    assert dumps(chain_item('{"Type":"x"}')) == '{"Type":"x"}'


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_written_number_reads_back_as_the_same_number(value: float) -> None:
    assert float(dumps(value)) == value


@given(
    st.recursive(
        st.none() | st.booleans() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_written_json_without_numbers_reads_back_as_the_same_value(value: object) -> None:
    assert json.loads(dumps(sorted_keys(value))) == value  # type: ignore[arg-type]
