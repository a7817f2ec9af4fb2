"""Each test applies a setting of Python's garbage collector in a separate process."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
from core.process import python_garbage_collector as collector

class Cycle:
    def __init__(self):
        self.myself = self

    def __del__(self):
        print("collected")

{call}
cycle = Cycle()
"""


@pytest.mark.parametrize(
    ("call", "printed"), [("", "collected\n"), ("collector.skip_final_collection()", "")]
)
def test_cycles_are_collected_at_exit_unless_the_final_collection_is_skipped(
    call: str, printed: str
) -> None:
    program = PROGRAM.format(call=call)
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    assert run.stdout == printed
