"""No Python file has a banned word of ``tests/tidy/banned_words.py``."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.tidy.banned_words import NOT_SEARCHED
from tests.tidy.sources import Source, python_sources, source
from tests.tidy.words import banned_names, banned_phrases

OFFENDER = '''
def look(stranger, found):
    """Whoever asks
    is told."""
    one = 1

    # nobody
    return one, found
'''


def _searched_files() -> list[Source]:
    return [file for file in python_sources() if file.path not in NOT_SEARCHED]


@pytest.mark.parametrize("rule", [banned_names, banned_phrases])
def test_no_file_has_a_banned_word(rule: Callable[[Source], Iterator[str]]) -> None:
    findings = [line for file in _searched_files() for line in rule(file)]

    assert not findings, "\n".join(findings)


def test_banned_words_are_found_in_names_and_texts() -> None:
    file = source("core/offender.py", OFFENDER)

    # The last two findings are the vague names of the function "look".
    assert [line.split(":")[2].strip() for line in banned_names(file)] == [
        "look",
        "stranger",
        "look",
        "look",
    ]
    assert [line.split('"')[1] for line in banned_phrases(file)] == ["Whoever", "is told", "nobody"]


def test_files_that_are_not_searched_exist() -> None:
    paths = {file.path for file in python_sources()}

    assert [path for path in NOT_SEARCHED if path not in paths] == []
