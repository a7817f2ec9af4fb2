"""Parsing of the command line, exit codes, and names of writers."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import core
from core.errors import (
    BadInput,
    LogGap,
    NotFound,
    OrbweaverError,
    OutcomeUnknown,
    Refusal,
    Refused,
    StoreTimeout,
    StoreUnavailable,
)
from core.eventstore.keys import check_name
from ops.cli.command_line import parse_options, program_of
from ops.cli.exit_codes import Exit, exit_code
from ops.cli.global_options import ProcessContext
from ops.cli.kinds import ObjectKind, kind_of, split_name
from ops.cli.main import run
from ops.cli.orbctl_application import app
from ops.cli.output import duration, moment
from ops.cli.session import WRITERS_MAX, writer_name
from ops.cli.time_arguments import parse_time
from tests.support.orbctl_harness import OrbctlHarness

NOON_MS = 1_767_268_800_000
"""2026-01-01 12:00:00 UTC."""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-01-01T12:00:00Z", NOON_MS),
        ("2026-01-01 12:00", NOON_MS),
        ("2026-01-01T13:00:00+01:00", NOON_MS),
        ("2026-01-01", NOON_MS - 12 * 3_600_000),
        ("9:30", NOON_MS - 9_000_000),
        ("11:59:30", NOON_MS - 30_000),
        ("15m", NOON_MS - 900_000),
        ("2h ago", NOON_MS - 7_200_000),
        ("1w", NOON_MS - 604_800_000),
        ("0s", NOON_MS),
    ],
)
def test_parse_time_accepts_dates_clock_times_and_ages(text: str, expected: int) -> None:
    assert parse_time(text, NOON_MS) == expected


@pytest.mark.parametrize(
    "text", ["999999999w", "9" * 99 + "w", "9999-12-31T23:59-14:00", "0001-01-01T00:00+14:00"]
)
def test_a_time_outside_the_years_1_to_9999_is_refused(text: str) -> None:
    with pytest.raises(BadInput, match="the years 1 to 9999"):
        parse_time(text, NOON_MS)


def test_the_last_printable_time_is_parsed_without_rounding() -> None:
    assert moment(parse_time("9999-12-31T23:59:59.999999", NOON_MS)) == "9999-12-31 23:59:59Z"


@given(st.text(max_size=30))
def test_the_error_for_an_invalid_time_has_a_remedy(text: str) -> None:
    remedy = "none needed: the text is a valid time"
    try:
        parse_time(text, NOON_MS)
    except BadInput as error:
        remedy = error.remedy

    assert remedy


@given(st.datetimes())
def test_a_printed_time_is_parsed_to_the_same_second(when: object) -> None:
    typed = parse_time(f"{when}", NOON_MS)

    assert parse_time(moment(typed), 0) == typed // 1000 * 1000


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "0s"),
        (119, "119s"),
        (120, "2m"),
        (312, "5m12s"),
        (7_200, "2h"),
        (11_220, "3h7m"),
        (172_800, "2d"),
        (187_200, "2d4h"),
    ],
)
def test_an_age_has_at_most_two_units(seconds: int, text: str) -> None:
    assert duration(seconds * 1000) == text


@pytest.mark.parametrize(
    ("typed", "parsed"),
    [
        ("get pools -o yaml", "get --output=yaml pools"),
        ("get pools -oyaml", "get --output=yaml pools"),
        ("get --output=json pools", "get --output=json pools"),
        ("--cluster x status --etcd a:1", "--cluster=x status --etcd=a:1"),
        ("get pools -n ns", "get --namespace=ns pools"),
        ("get pools -Ao yaml", "get --all-namespaces --output=yaml pools"),
        ("release x --reason -oops -y", "release --reason=-oops --yes x"),
        ("gc --gone -o --cluster blue", "gc --gone=-o --cluster=blue"),
        ("apply -f a -f b", "apply --filename=a --filename=b"),
        ("get -- -o yaml", "get -- -o yaml"),
        ("workflow -o json list --queue x", "workflow --output=json list --queue=x"),
        ("nonsense -o yaml", ""),  # not a command
    ],
)
def test_options_are_parsed_as_their_command_defines_them(typed: str, parsed: str) -> None:
    options = parse_options(typed.split(), program_of(app))

    assert [word for option in options for word in option.words] == parsed.split()


@pytest.mark.parametrize(
    "line",
    [
        "-o json version",
        "--output=json version",
        "version -o json",
        "version -ojson",
        "-o yaml version -o json",
    ],
)
def test_global_options_may_precede_or_follow_the_command(
    line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code = run(line.split(), ProcessContext())

    assert code == Exit.OK
    assert json.loads(capsys.readouterr().out)["version"] == core.__version__


@pytest.mark.parametrize("word", ["pool", "Pools", "sp", "spiderippools", "ippool"])
def test_a_kind_has_several_names(word: str) -> None:
    assert kind_of(word, (ObjectKind.POOL,)) is ObjectKind.POOL


def test_a_kind_that_the_command_does_not_accept_is_refused() -> None:
    with pytest.raises(BadInput, match="cannot be used with this command"):
        kind_of("node", (ObjectKind.POOL,))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("web", ("default", "web")),
        ("shop/web", ("shop", "web")),
        ("pod/web", ("default", "web")),
        ("pod/shop/web", ("shop", "web")),
    ],
)
def test_a_pod_is_named_with_or_without_namespace(text: str, expected: tuple[str, str]) -> None:
    assert split_name(text, "default") == expected


@pytest.mark.parametrize("option", [["--deadline", "2h"], ["--deadline", "2h", "--reinstate"]])
def test_a_deadline_is_an_error_if_the_environment_refuses_objects_in_use(
    option: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ORBWEAVER_RETIRE_IN_USE", "refuse")

    code = run(["retire", "pool", "blue", *option], ProcessContext())

    assert code == Exit.USAGE
    assert "give --in-use wait" in capsys.readouterr().err


@pytest.mark.parametrize(
    "line",
    [
        "release \udce9t\udce9 --reason x --yes",
        "quarantine add 10.6.0.11 --reason \udce9t\udce9",
        "workflow signal \udce9t\udce9 scan-now",
    ],
)
def test_an_argument_that_is_not_utf8_is_a_usage_error(tmp_path: Path, line: str) -> None:
    refused = OrbctlHarness(tmp_path).orbctl(*line.split())

    assert refused.code == Exit.USAGE
    assert re.search(r"\\udce9t\\udce9.*' is not UTF-8 text", refused.err)


def test_a_result_that_the_output_encoding_cannot_represent_is_an_error_with_a_remedy() -> None:
    completed = subprocess.run(
        [
            sys.executable,
            "-m",
            "ops.cli.main",
            "version",
            "-o",
            "custom-columns=\u00c9TAT:.version",
        ],
        env=os.environ | {"PYTHONIOENCODING": "ascii"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert completed.returncode == Exit.FAILED
    assert "PYTHONUTF8=1" in completed.stderr.splitlines()[1]


@pytest.mark.parametrize("text", ["N<=5", "N==5", "N>5", "N<==5", "N"])
def test_an_attribute_with_an_unknown_operator_is_refused(tmp_path: Path, text: str) -> None:
    listed = OrbctlHarness(tmp_path).orbctl("workflow", "list", "--attribute", text)

    assert listed.code == Exit.USAGE
    assert f"'{text}' is not NAME=VALUE, NAME>=VALUE or NAME<VALUE" in listed.err


@pytest.mark.parametrize("text", ["N<5", "N>=5", "N=5", 'N="=5"', "N=", "N=a=b"])
def test_an_attribute_with_a_known_operator_is_accepted(tmp_path: Path, text: str) -> None:
    listed = OrbctlHarness(tmp_path).orbctl("workflow", "list", "--attribute", text)

    assert (listed.code, listed.err) == (Exit.OK, "")


def refused_error(*kinds: str) -> Refused:
    return Refused(
        tuple(
            Refusal(kind, rule="r", subject="s", field="", message="m")  # type: ignore[arg-type]
            for kind in kinds
        )
    )


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (refused_error("Invalid"), Exit.REFUSED),
        (refused_error("NotFound"), Exit.NOT_FOUND),
        (refused_error("NotFound", "Invalid"), Exit.REFUSED),
        (NotFound("x"), Exit.NOT_FOUND),
        (BadInput("x"), Exit.USAGE),
        (StoreUnavailable("x"), Exit.UNAVAILABLE),
        (StoreTimeout("x"), Exit.UNAVAILABLE),
        (OutcomeUnknown("x"), Exit.UNKNOWN),
        (LogGap("x"), Exit.FAILED),
        (OrbweaverError("x"), Exit.FAILED),
    ],
)
def test_every_error_has_an_exit_code(error: OrbweaverError, code: Exit) -> None:
    assert exit_code(error) is code


@given(st.lists(st.text(), min_size=40, max_size=40))
def test_many_users_share_a_limited_number_of_writer_names(people: list[str]) -> None:
    names = {writer_name(person) for person in people}

    assert len(names) <= WRITERS_MAX
    assert all(check_name(name, "writer name") for name in names)
