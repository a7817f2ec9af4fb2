"""The alert rules, tested by promtool."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.parts import PROMETHEUS, needs

MONITORING = Path(__file__).parents[3] / "ops" / "monitoring"
PROMTOOL = shutil.which("promtool")

pytestmark = pytest.mark.skipif(PROMTOOL is None, reason=needs(PROMETHEUS, "promtool"))


def promtool(*arguments: str) -> subprocess.CompletedProcess[str]:
    assert PROMTOOL is not None
    return subprocess.run(
        [PROMTOOL, *arguments], cwd=MONITORING, capture_output=True, text=True, check=False
    )


def test_promtool_accepts_the_alert_rules() -> None:
    result = promtool("check", "rules", "--lint-fatal", "alerts.yml")

    assert result.returncode == 0, result.stdout + result.stderr


def test_promtool_accepts_the_configuration_of_prometheus() -> None:
    result = promtool("check", "config", "--syntax-only", "prometheus.yml")

    assert result.returncode == 0, result.stdout + result.stderr


def test_every_alert_fires_at_the_times_in_alerts_test_yml() -> None:
    result = promtool("test", "rules", "alerts_test.yml")

    assert result.returncode == 0, result.stdout + result.stderr


def test_every_alert_has_a_test() -> None:
    alerts = names_after((MONITORING / "alerts.yml").read_text("utf-8"), "- alert: ")
    tested = names_after((MONITORING / "alerts_test.yml").read_text("utf-8"), "alertname: ")

    assert alerts
    assert alerts == tested


def names_after(text: str, prefix: str) -> set[str]:
    return {
        line.partition(prefix)[2].partition(",")[0].strip()
        for line in text.splitlines()
        if prefix in line
    }
