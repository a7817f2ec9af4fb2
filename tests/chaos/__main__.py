"""``python -m tests.chaos minutes=10 seed=1``: injects faults into real processes, checks the log.

Options are NAME=VALUE:

    minutes, seed, agents, controllers
    members         the number of etcd members
    callers         the number of concurrent callers of each agent
    keep=DIRECTORY  an empty directory, to keep process logs and the export of the event log
    plan=1          only print the planned faults

The exit code is 0 if there are no violations, 1 if there are violations, and 2 for wrong options.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.chaos.fault_run import run
from tests.chaos.garbage import GARBAGE_KINDS
from tests.chaos.plan import Options, draw_plan
from tests.chaos.processes import find_faketime
from tests.chaos.report import json_line, table_lines
from tests.support.parts import FAKETIME, REMEDIES

EXIT_VIOLATIONS = 1
EXIT_USAGE = 2


def main(arguments: list[str]) -> int:
    try:
        words = dict(map(_name_and_value, arguments))
        keep, plan = words.pop("keep", ""), words.pop("plan", "")
        options = read_options(words)
    except ValueError as error:
        sys.stderr.write(f"chaos: {error}\n\n{__doc__}")
        return EXIT_USAGE
    if plan:
        for fault in draw_plan(options, GARBAGE_KINDS, clocks=bool(find_faketime())):
            sys.stdout.write(f"{' '.join(map(str, fault))}\n")
        return 0
    if not find_faketime():
        sys.stderr.write(f"chaos: {FAKETIME} is missing, so no clock jumps; {REMEDIES[FAKETIME]}\n")
    with tempfile.TemporaryDirectory(prefix="ow-chaos-") as temporary:
        directory = Path(keep or temporary)
        directory.mkdir(parents=True, exist_ok=True)
        outcome = asyncio.run(run(options, directory))
    sys.stdout.writelines(f"{line}\n" for line in (*table_lines(outcome), json_line(outcome)))
    return EXIT_VIOLATIONS if outcome.violations else 0


def read_options(words: dict[str, str]) -> Options:
    """Read NAME -> VALUE. Raises ValueError for an unknown name or a wrong value."""
    unknown = words.keys() - set(Options._fields)
    if unknown:
        raise ValueError(f"unknown option {', '.join(sorted(unknown))}")
    return Options(**{name: _number(name, value) for name, value in words.items()})


def _name_and_value(argument: str) -> tuple[str, str]:
    name, separator, value = argument.partition("=")
    if not separator:
        raise ValueError(f"option {name} has no value: write {name}=VALUE")
    return name, value


def _number(name: str, value: str) -> Any:  # the type of the option
    kind = type(getattr(Options(), name))
    try:
        return kind(value)
    except ValueError:
        raise ValueError(f"{name}={value} is not a number of the type {kind.__name__}") from None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
