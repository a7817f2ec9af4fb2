"""Patterns of pool names match as Go's ``filepath.Match`` does, with the same errors."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from core.domain.patterns.globs import BadPattern, is_pattern, match

NAMES = st.text(alphabet="ab-/", max_size=8)
PIECES = st.sampled_from(
    ["a", "b", "-", "/", "?", "*", "**", "[ab]", "[^a/]", "[a-b]", "\\a", "\\*"]
)
PATTERNS = st.lists(PIECES, max_size=6).map("".join)
EXPRESSIONS = {"?": "[^/]", "[^a/]": "[^a/]", "[ab]": "[ab]", "[a-b]": "[a-b]"}


def as_expression(pattern: str) -> str:
    """The regular expression of a pattern that consists of PIECES."""
    parts = re.findall(r"\*+|\[[^]]*\]|\\.|.", pattern)
    return "".join(
        "[^/]*" if part[0] == "*" else EXPRESSIONS.get(part, re.escape(part[-1])) for part in parts
    )


@settings(max_examples=500, deadline=None)
@given(PATTERNS, NAMES)
@example("*a", "aaa")
@example("a*b*a", "abba")
@example("*/*", "a/b")
def test_a_pattern_matches_what_its_regular_expression_matches(pattern: str, name: str) -> None:
    expected = re.fullmatch(as_expression(pattern), name) is not None

    assert match(pattern, name) == expected


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet="ab-]^[\\*?", max_size=8), NAMES, NAMES)
def test_a_pattern_is_refused_for_every_name_or_for_none(
    pattern: str, first_name: str, second_name: str
) -> None:
    def is_refused(name: str) -> bool:
        try:
            match(pattern, name)
        except BadPattern:
            return True
        return False

    assert is_refused(first_name) == is_refused(second_name)


@settings(max_examples=100, deadline=None)
@given(NAMES)
def test_a_name_without_special_characters_matches_only_itself(name: str) -> None:
    assert not is_pattern(name)
    assert match(name, name)
    assert not match(name, name + "a")
    assert not match(name + "a", name)


@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        ("rack-*", "rack-"),
        ("rack-*", "rack-7-v4"),
        ("*-v4", "rack-7-v4"),
        ("rack-?-v4", "rack-7-v4"),
        ("rack-[0-9]", "rack-7"),
        ("rack-[^0-4]", "rack-7"),
        ("rack-[13-57]", "rack-4"),
        ("rack**v4", "rack-v4"),
        ("*", ""),
        ("", ""),
        ("a\\*b", "a*b"),
        ("a\\b", "ab"),
        ("[\\]]", "]"),
        ("[\\-x]", "-"),
        ("[*]", "*"),
        ("[?]", "?"),
        ("[[]", "["),
        ("[^^]", "a"),
        ("]", "]"),
        ("a-b]", "a-b]"),
        ("[^a]", "/"),
        ("[.-0]", "/"),
        ("*/*", "rack/v4"),
    ],
)
def test_a_pattern_matches(pattern: str, name: str) -> None:
    assert match(pattern, name)


@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        ("rack-*", "my-rack-7"),
        ("rack-?", "rack-"),
        ("rack-?", "rack-10"),
        ("rack-[0-9]", "rack-x"),
        ("rack-[^0-9]", "rack-"),
        ("[9-0]", "5"),
        ("Rack", "rack"),
        ("*", "rack/v4"),
        ("rack*v4", "rack/v4"),
        ("?", "/"),
        ("", "a"),
        ("a", ""),
        ("a\\*b", "axb"),
        ("*a*b", "ba"),
    ],
)
def test_a_pattern_does_not_match(pattern: str, name: str) -> None:
    assert not match(pattern, name)


def test_text_between_stars_is_matched_only_at_its_leftmost_position() -> None:
    # "[^x]" is matched with "a", and not tried again with "/".
    assert not match("*[^x]*b", "a/b")


@pytest.mark.parametrize(
    "pattern",
    ["[", "[a", "[a-", "[a-]", "[]", "[]a]", "[^", "[^]", "[^]a]", "[-]", "[-a]", "[a-b-c]"],
)
@pytest.mark.parametrize("prefix", ["", "zzz", "zzz*", "*", "?", "[a]"])
def test_a_malformed_character_class_is_refused_even_after_a_mismatch(
    prefix: str, pattern: str
) -> None:
    with pytest.raises(BadPattern) as caught:
        match(prefix + pattern, "name")

    assert caught.value.pattern == prefix + pattern
    assert caught.value.reason in str(caught.value)


@pytest.mark.parametrize("pattern", ["\\", "a\\", "*\\", "[\\", "[a\\", "[a-\\"])
def test_a_pattern_that_ends_with_a_backslash_is_refused(pattern: str) -> None:
    with pytest.raises(BadPattern, match="syntax error in pattern"):
        match(pattern, "a")


@pytest.mark.parametrize("name", ["a*", "?", "[a]", "]a[", "rack-[0-9]"])
def test_a_name_with_a_star_a_question_mark_or_both_brackets_is_a_pattern(name: str) -> None:
    assert is_pattern(name)


@pytest.mark.parametrize("name", ["", "rack-7", "[a", "a]", "a\\b"])
def test_a_name_with_at_most_one_bracket_is_not_a_pattern(name: str) -> None:
    assert not is_pattern(name)


def test_a_pattern_of_many_stars_is_matched_in_polynomial_time() -> None:
    assert not match("*a" * 200 + "b", "a" * 2000)
