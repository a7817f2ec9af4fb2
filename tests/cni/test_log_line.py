"""An executable logs each call that gets no answer from the agent."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.cni.fake_agent import answer_frame, answering
from tests.cni.plugin import TRY_AGAIN_LATER, Spiderpool, c_string, error_of


def test_each_call_logs_one_line_if_no_agent_runs(spiderpool: Spiderpool) -> None:
    errors = [error_of(spiderpool.call(verb)) for verb in ("ADD", "DEL")]

    lines = [json.loads(line) for line in spiderpool.log_path.read_text().splitlines()]
    assert [line["CNI_COMMAND"] for line in lines] == ["ADD", "DEL"]
    assert [line["msg"] for line in lines] == [error["msg"] for error in errors]
    assert {line["level"] for line in lines} == {"ERROR"}
    assert {line["CNI_CONTAINERID"] for line in lines} == {"c1"}
    assert {line["CNI_ARGS"] for line in lines} == {"K8S_POD_NAME=web-0;K8S_POD_NAMESPACE=shop"}


def test_a_call_without_an_answer_logs_a_line(spiderpool: Spiderpool) -> None:
    with spiderpool.agent(answering(b"")):
        error_of(spiderpool.call())

    assert json.loads(spiderpool.log_path.read_text())["code"] == TRY_AGAIN_LATER


def test_an_answered_call_is_not_logged(spiderpool: Spiderpool) -> None:
    with spiderpool.agent(answering(answer_frame(1, b'{"code": 999}'))):
        result = spiderpool.call()

    assert result.returncode == 1
    assert not spiderpool.log_path.exists()


@pytest.mark.parametrize(
    ("level", "is_logged"),
    [("debug", True), ("Error", True), ("nonsense", True), ("fatal", False), ("PANIC", False)],
)
def test_the_netconf_sets_the_log_level(
    spiderpool: Spiderpool, level: str, is_logged: bool
) -> None:
    error_of(spiderpool.call(netconf=spiderpool.netconf(log_level=level)))

    assert spiderpool.log_path.exists() == is_logged


@pytest.mark.parametrize("has_directory", [True, False])
def test_the_default_log_file_is_used_only_if_its_directory_exists(
    spiderpool: Spiderpool, short_path: Path, has_directory: bool
) -> None:
    log = short_path / "log" / "spiderpool.log"
    spiderpool.install(LOG_DIRECTORY=c_string(log.parent))
    if has_directory:
        log.parent.mkdir()

    error_of(spiderpool.call(netconf=spiderpool.netconf(log_file_path="")))

    assert log.exists() == has_directory


@pytest.mark.parametrize("size", [1, "1"])
def test_a_log_file_of_the_maximum_size_does_not_grow(
    spiderpool: Spiderpool, size: int | str
) -> None:
    size_max = 1 << 20  # log_file_max_size is in MiB
    spiderpool.log_path.touch()
    os.truncate(spiderpool.log_path, size_max)

    error_of(spiderpool.call(netconf=spiderpool.netconf(log_file_max_size=size)))

    assert spiderpool.log_path.stat().st_size == size_max


def test_an_unwritable_log_does_not_change_the_error(
    spiderpool: Spiderpool, short_path: Path
) -> None:
    fifo = short_path / "fifo"
    os.mkfifo(fifo)
    unwritable_paths = [
        "/nowhere/x.log",
        str(short_path),
        str(fifo),
        "/dev/full",
        "a\0b",
        "\ud800",
        7,
        [],
    ]

    codes = [
        error_of(spiderpool.call(netconf=spiderpool.netconf(log_file_path=path)))["code"]
        for path in unwritable_paths
    ]

    assert codes == [TRY_AGAIN_LATER] * len(unwritable_paths)


def test_a_call_logs_to_the_default_file_if_the_netconf_has_no_ipam_object(
    spiderpool: Spiderpool, short_path: Path
) -> None:
    log = short_path / "spiderpool.log"
    spiderpool.install(
        LOG_DIRECTORY=c_string(log.parent), SOCKET_PATH=c_string(spiderpool.socket_path)
    )

    error_of(spiderpool.call(netconf=b'{"ipam": []}'))
    error_of(spiderpool.call(netconf=b"[]"))

    assert len(log.read_text().splitlines()) == 2


@pytest.mark.parametrize("path", ["{}/elsewhere.log", "{}/log/../elsewhere.log", "elsewhere.log"])
def test_a_netconf_cannot_choose_a_log_file_outside_the_log_directory(
    spiderpool: Spiderpool, short_path: Path, path: str
) -> None:
    log = short_path / "log" / "spiderpool.log"
    log.parent.mkdir()
    spiderpool.install(LOG_DIRECTORY=c_string(log.parent))
    netconf = spiderpool.netconf(log_file_path=path.format(short_path))

    error_of(spiderpool.call(netconf=netconf, cwd=short_path))

    assert not (short_path / "elsewhere.log").exists()
    assert len(log.read_text().splitlines()) == 1


def test_a_call_does_not_follow_a_symbolic_link_at_the_log_path(
    spiderpool: Spiderpool, short_path: Path
) -> None:
    target = short_path / "target"
    target.touch()
    spiderpool.log_path.symlink_to(target)

    error_of(spiderpool.call())

    assert target.read_text() == ""
