"""The executable ``coordinator``: its name, netconf and log."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cni.fake_agent import answer_frame, answering, reading_once
from tests.cni.plugin import TRY_AGAIN_LATER, Coordinator, c_string, error_of


@pytest.fixture
def coordinator(short_path: Path) -> Coordinator:
    return Coordinator(short_path)


def test_the_coordinator_prints_its_versions_without_an_agent(coordinator: Coordinator) -> None:
    answer = json.loads(coordinator.call("VERSION").stdout)

    assert answer["supportedVersions"] == ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"]


def test_an_add_sends_the_name_of_the_executable(coordinator: Coordinator) -> None:
    netconf = coordinator.netconf(mode="underlay")

    with coordinator.agent(answering(answer_frame(0, b"{}"))) as agent:
        result = coordinator.call("ADD", netconf)

    assert (result.returncode, result.stdout) == (0, b"{}")
    assert agent.requests[0].environment[b"ORBWEAVER_PLUGIN"] == b"coordinator"
    assert agent.requests[0].stdin == netconf


def test_a_socket_path_with_json_escapes_is_decoded(coordinator: Coordinator) -> None:
    escaped = str(coordinator.socket_path).replace("/", "\\/").encode()
    plain = coordinator.netconf()
    netconf = plain.replace(str(coordinator.socket_path).encode(), escaped)

    with coordinator.agent(answering(answer_frame(0, b"{}"))):
        assert coordinator.call("ADD", netconf).returncode == 0


@pytest.mark.parametrize(("verb", "operation"), [("ADD", "set up"), ("DEL", "clean up")])
def test_the_error_names_the_failed_operation_if_the_agent_does_not_answer(
    coordinator: Coordinator, verb: str, operation: str
) -> None:
    with coordinator.agent(reading_once):
        error = error_of(coordinator.call(verb))

    assert error["code"] == TRY_AGAIN_LATER
    assert error["msg"].startswith(f"coordinator failed to {operation} the Pod's network: ")
    assert json.loads(coordinator.log_path.read_text())["CNI_COMMAND"] == verb


def test_log_options_set_the_level_and_a_list_is_ignored(
    coordinator: Coordinator,
) -> None:
    # With a list as ``logOptions``, the call logs to the default file, which is ``logFile`` here.
    coordinator.install(LOG_DIRECTORY=c_string(coordinator.directory))
    coordinator.log_path = coordinator.directory / "coordinator.log"
    options = {"logFile": str(coordinator.log_path), "logLevel": "fatal"}

    error_of(coordinator.call(netconf=coordinator.netconf(logOptions=options)))
    is_log_absent = not coordinator.log_path.exists()
    error_of(coordinator.call(netconf=coordinator.netconf(logOptions=[])))

    assert is_log_absent
    assert len(coordinator.log_path.read_text().splitlines()) == 1


@pytest.mark.parametrize(("verb", "code"), [("DEL", 0), ("ADD", 1), ("CHECK", 1), ("GC", 1)])
def test_only_a_del_succeeds_if_no_agent_runs(
    coordinator: Coordinator, verb: str, code: int
) -> None:
    result = coordinator.call(verb)

    assert result.returncode == code
    assert (result.stdout == b"") == (code == 0)
    line = json.loads(coordinator.log_path.read_text())
    assert line["CNI_COMMAND"] == verb
    assert "unhealthy" in line["msg"]
