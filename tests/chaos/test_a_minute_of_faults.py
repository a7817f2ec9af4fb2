"""A minute of ``make chaos`` with real processes and the faults of one seed."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from tests.chaos.fault_run import run
from tests.chaos.plan import Options
from tests.chaos.processes import find_faketime
from tests.chaos.report import table_lines
from tests.support.parts import FAKETIME, note_substitute

pytestmark = [pytest.mark.etcd, pytest.mark.slow, pytest.mark.timeout(480)]

SEED_OF_CI = 1
FAULTS_MIN = 20
ADDS_MIN = 100


async def test_a_minute_of_faults_causes_no_violation(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    if not find_faketime():
        note_substitute(request.node, FAKETIME, "correct clocks")
    seed = SEED_OF_CI if os.environ.get("CI") else random.SystemRandom().randrange(1, 10_000)
    outcome = await run(Options(minutes=1, seed=seed), tmp_path)

    text = "\n".join(table_lines(outcome))
    assert not outcome.violations, text
    assert sum(outcome.faults.values()) >= FAULTS_MIN, text
    assert outcome.counts["ADD done"] >= ADDS_MIN, text
    assert outcome.recoveries, text
