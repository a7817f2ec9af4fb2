"""The executable ``ifacer``: its name, verbs and versions."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cni.fake_agent import answer_frame, answering
from tests.cni.plugin import TRY_AGAIN_LATER, Ifacer, error_of


@pytest.fixture
def ifacer(short_path: Path) -> Ifacer:
    return Ifacer(short_path)


def test_an_add_sends_the_name_of_the_executable(ifacer: Ifacer) -> None:
    with ifacer.agent(answering(answer_frame(0, b"{}"))) as agent:
        result = ifacer.call("ADD")

    assert (result.returncode, result.stdout) == (0, b"{}")
    (request,) = agent.requests
    assert request.environment[b"ORBWEAVER_PLUGIN"] == b"ifacer"
    assert request.stdin == ifacer.netconf()


@pytest.mark.parametrize("verb", ["DEL", "CHECK", "GC", "STATUS"])
def test_every_verb_except_add_succeeds_without_an_agent(ifacer: Ifacer, verb: str) -> None:
    result = ifacer.call(verb)

    assert (result.returncode, result.stdout, result.stderr) == (0, b"", b"")


def test_ifacer_supports_cni_versions_from_0_1_0(ifacer: Ifacer) -> None:
    answer = json.loads(ifacer.call("VERSION", b'{"cniVersion":"0.2.0"}').stdout)

    assert answer["cniVersion"] == "0.2.0"
    assert answer["supportedVersions"][0] == "0.1.0"


def test_an_add_fails_with_try_again_later_if_no_agent_runs(ifacer: Ifacer) -> None:
    error = error_of(ifacer.call("ADD"))

    assert error["code"] == TRY_AGAIN_LATER
    assert str(ifacer.socket_path) in error["msg"]
    (line,) = ifacer.log_path.read_text().splitlines()
    assert json.loads(line)["msg"] == error["msg"]


def test_the_socket_path_is_found_in_a_netconf_with_escaped_quotes(ifacer: Ifacer) -> None:
    with ifacer.agent(answering(answer_frame(0, b"{}"))):
        result = ifacer.call("ADD", ifacer.netconf(comment='a "quoted" word'))

    assert (result.returncode, result.stdout) == (0, b"{}")
