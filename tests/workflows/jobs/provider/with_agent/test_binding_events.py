"""The log records every state of a binding, and histories show the states."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.archive.archive_directory import LocalFiles
from core.archive.replay import open_log
from core.audit.history import read_history
from core.audit.history_entries import HistoryEntry, parse_subject
from core.audit.past_adds import LogMoment, read_past_adds
from core.domain.events import BindingChanged
from ops.cli.formats import TABLE_OUTPUT
from ops.cli.past_explanation import plain_adds, show_adds
from tests.workflows.jobs.provider.fake_provider import Fault
from tests.workflows.jobs.provider.with_agent.provider_harness import ProviderHarness, eventually

pytestmark = pytest.mark.etcd
POD = ("shop", "web-0")


async def test_histories_of_a_pod_and_its_address_have_every_binding_state(
    harness: ProviderHarness, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    await harness.start_controller()
    (address,) = await harness.node.add()
    await harness.node.delete()
    await eventually(harness.everything_is_released)
    view = await open_log(harness.node.store, harness.node.keys, LocalFiles(tmp_path))

    changes: list[HistoryEntry] = []
    for subject in ("pod/shop/web-0", address.partition("/")[0]):
        entries = (await read_history(view, parse_subject(subject))).entries
        changes = [entry for entry in entries if entry.kind == "binding"]
        assert [entry.reason for entry in changes] == ["asked", "bound", "returning", "released"]
        assert {entry.subject for entry in changes} == {address.partition("/")[0]}
        assert "CNI DEL" in changes[-1].evidence
        assert changes[0].began.actor == "orbweaver-controller/ExternalBinding"

    bound = next(entry for entry in changes if entry.reason == "bound").began
    adds = await read_past_adds(view, POD, LogMoment(position=bound.position))
    show_adds("/".join(POD), adds, TABLE_OUTPUT, bound.at_ms)
    assert "network provider: bound, since" in capsys.readouterr().out
    assert plain_adds("/".join(POD), adds)["binding"]["state"] == "bound"
    assert (await read_past_adds(view, POD)).binding is None


async def test_a_refused_bind_is_in_the_log_with_its_reason(
    harness: ProviderHarness, tmp_path: Path
) -> None:
    await harness.start_controller()
    harness.provider.faults.append(Fault.REFUSED)
    assert (await harness.node.call("ADD")).error
    await eventually(harness.everything_is_released)
    view = await open_log(harness.node.store, harness.node.keys, LocalFiles(tmp_path))

    changes = [
        recorded.event
        async for batch in view.events()
        for recorded in batch
        if isinstance(recorded.event, BindingChanged)
    ]
    assert [event.state for event in changes] == ["asked", "failed", "returning", "released"]
    assert "no VLAN is left" in changes[1].why
