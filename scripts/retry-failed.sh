#!/usr/bin/env bash
# Runs the tests that failed in the last run once more: on a busy machine a test may miss its deadline. Nothing is run
# if more than MAX_RETRIED_TESTS tests failed, or if a failed test checks for leaked or duplicate addresses or lost
# state: a single failure of such a test is a bug. Tests that pass here are printed as FLAKY and must be repaired.
set -euo pipefail
cd "$(dirname "$0")/.."

MAX_RETRIED_TESTS=3
NEVER_RETRIED='^tests/(chaos|faults|workflows/faults|core/domain)/'

mapfile -t failed < <(.venv/bin/python - <<'PYTHON'
import json
from pathlib import Path

record = Path(".pytest_cache/v/cache/lastfailed")
print(*json.loads(record.read_text()) if record.exists() else (), sep="\n", end="")
PYTHON
)
if [ "${#failed[@]}" -eq 0 ] || [ "${#failed[@]}" -gt "$MAX_RETRIED_TESTS" ]; then
  echo "no retry: ${#failed[@]} tests failed; only 1 to $MAX_RETRIED_TESTS failed tests are retried" >&2
  exit 1
fi
if printf '%s\n' "${failed[@]}" | grep -E "$NEVER_RETRIED" >&2; then
  echo "no retry: these tests check for lost or duplicate addresses" >&2
  exit 1
fi
make test ARGS="--last-failed --last-failed-no-failures=none"
printf 'FLAKY: failed once and passed alone: %s\n' "${failed[@]}"
