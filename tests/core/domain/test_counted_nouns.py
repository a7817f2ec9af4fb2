"""Messages contain numbers with their nouns."""

from __future__ import annotations

import pytest

from core.domain.counted_nouns import counted


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0 entries"), (1, "1 entry"), (2, "2 entries"), (4_000, "4,000 entries")],
)
def test_only_the_number_1_has_a_singular_noun(number: int, text: str) -> None:
    assert counted(number, "entry", "entries") == text


def test_a_plural_that_is_not_given_ends_with_s() -> None:
    assert (counted(1, "pool"), counted(2, "pool")) == ("1 pool", "2 pools")
