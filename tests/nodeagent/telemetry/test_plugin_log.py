"""The plugin log that the agent writes: levels, rotation, limits."""

from __future__ import annotations

import json
import logging
import os
import time
from pathlib import Path
from typing import Any

import pytest

from core.eventstore.memory_store import MemoryStore
from nodeagent.cni_protocol.failures import USED_OUT
from nodeagent.servers.call_log_lines import LogDirectory
from nodeagent.settings.agent_settings import Settings
from nodeagent.telemetry.plugin_log import (
    FILES_MAX,
    LogTarget,
    PluginLog,
    RotatingFile,
)
from tests.support.agent_harness import running
from tests.support.descriptors import open_descriptors


async def plugin_lines(settings: Settings, store: MemoryStore, **ipam: Any) -> list[Any]:
    """Run an ADD that succeeds and one that fails; return the lines of the plugin log."""
    async with running(settings, store) as node:
        await node.pool("lan", "10.6.0.0/24", "10.6.0.10")
        await node.call("ADD", conf=node.netconf(ipam=ipam))
        await node.call("ADD", "web-1", conf=node.netconf(ipam=ipam))
    path = Path(ipam.get("log_file_path", settings.plugin_log_path))
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


async def test_every_call_leaves_a_line_in_the_plugin_log(
    settings: Settings, memory_store: MemoryStore, short_path: Path
) -> None:
    path = short_path / "lan.log"

    good, bad = await plugin_lines(settings, memory_store, log_file_path=str(path))

    assert (good["level"], good["msg"]) == ("INFO", "ADD done")
    assert good["addresses"] == ["10.6.0.10/24"]
    assert (good["cmd"], good["container"], good["interface"]) == ("ADD", "c-web-0", "eth0")
    assert (good["pod"], good["uid"], good["network"]) == ("shop/web-0", "uid-web-0", "lan")
    assert good["ms"] > 0
    assert (bad["level"], bad["code"]) == ("ERROR", USED_OUT)
    assert bad["msg"].startswith("spiderpool IP allocation error: ")
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(("level", "lines"), [("DEBUG", 2), ("info", 2), ("warn", 1), ("fatal", 0)])
async def test_the_log_level_of_the_netconf_applies(
    settings: Settings, memory_store: MemoryStore, level: str, lines: int
) -> None:
    assert len(await plugin_lines(settings, memory_store, log_level=level)) == lines


async def test_a_call_succeeds_even_if_its_log_cannot_be_written(
    settings: Settings,
    memory_store: MemoryStore,
    short_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    (short_path / "lan.log").mkdir()
    async with running(settings, memory_store) as node:
        await node.pool("lan", "10.6.0.0/24", "10.6.0.10")
        conf = node.netconf(ipam={"log_file_path": str(short_path / "lan.log")})
        assert await node.add(conf=conf)
        assert await node.add(conf=conf)

    warnings = [
        record for record in caplog.records if "cannot write the plugin log" in record.message
    ]
    assert len(warnings) == 1, "one warning for both calls"


def test_the_plugin_log_is_rotated_by_size_number_and_age(short_path: Path) -> None:
    path = short_path / "plugin.log"
    file = RotatingFile(LogTarget(str(path), megabytes=1, days=7, files=2))
    # Each line after the first rotates the files, because two lines exceed 1 MB.
    line = logging.makeLogRecord({"msg": "x" * 700_000})

    file.handle(line)
    file.handle(line)
    old = time.time() - 8 * 86_400
    os.utime(f"{path}.1", (old, old))
    file.handle(line)
    assert not Path(f"{path}.2").exists(), "the file of 8 days ago is removed, not renamed"
    file.handle(line)
    file.close()

    assert sorted(entry.name for entry in short_path.iterdir()) == [
        "plugin.log",
        "plugin.log.1",
        "plugin.log.2",
    ]
    assert all(entry.stat().st_mtime > old + 60 for entry in short_path.iterdir())


def test_lines_that_come_too_fast_are_dropped_and_counted(
    short_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nodeagent.telemetry.plugin_log.LINES_WAITING_MAX", 2)
    log = PluginLog()
    target = LogTarget(str(short_path / "plugin.log"))

    for number in range(5):
        log.write(target, "info", {"number": number})
    log.start()
    log.close()

    assert log.dropped == 3
    lines = (short_path / "plugin.log").read_text().splitlines()
    assert [json.loads(line)["number"] for line in lines] == [0, 1]


def test_the_number_of_open_files_is_bounded(
    short_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nodeagent.telemetry.plugin_log.FILES_OPEN_MAX", 2)
    log = PluginLog()
    for number in range(6):
        log.write(LogTarget(str(short_path / f"{number}.log")), "info", {"number": number})
    before = open_descriptors()

    log._flush()
    newly_open = open_descriptors() - before
    log.start()
    log.close()

    assert len(newly_open) == 2
    assert len(list(short_path.glob("*.log"))) == 6


def test_lines_for_a_file_that_cannot_be_written_are_counted(short_path: Path) -> None:
    (short_path / "plugin.log").mkdir()
    log = PluginLog()
    target = LogTarget(str(short_path / "plugin.log"))
    for number in range(3):
        log.write(target, "info", {"number": number})
    log._flush()
    assert log.dropped == 3, "the lines of the failed write"

    log.write(target, "info", {"number": 4})
    log._flush()
    assert log.dropped == 4, "a line until the next try"


@pytest.mark.parametrize("file_name", ["a\0b", "fifo"])
def test_an_unwritable_log_does_not_stop_other_logs(short_path: Path, file_name: str) -> None:
    os.mkfifo(short_path / "fifo")
    log = PluginLog()
    log.write(LogTarget(f"{short_path}/{file_name}"), "info", {"number": 1})
    log.write(LogTarget(str(short_path / "plugin.log")), "info", {"number": 2})

    log.start()
    log.close()

    assert len((short_path / "plugin.log").read_text().splitlines()) == 1


def test_networks_that_share_a_log_file_write_to_the_new_file_after_rotation(
    short_path: Path,
) -> None:
    path = short_path / "plugin.log"
    small, large = LogTarget(str(path), megabytes=1), LogTarget(str(path), megabytes=100)
    log = PluginLog()
    for target, text in ((large, "first"), (small, "x" * 2**20), (small, "new"), (large, "last")):
        log.write(target, "info", {"text": text})
        log._flush()
    log.start()
    log.close()

    texts = [json.loads(line)["text"] for line in path.read_text().splitlines()]
    assert texts == ["new", "last"]


def test_a_netconf_cannot_raise_the_number_of_rotated_files_above_the_limit(
    short_path: Path,
) -> None:
    file = RotatingFile(LogTarget(str(short_path / "plugin.log"), files=1 << 31))
    file.close()
    assert file.backupCount == FILES_MAX


@pytest.mark.parametrize("path", ["{}.log", "{}/../outside.log", "{}/deep/lan.log", "lan.log", "/"])
async def test_a_netconf_cannot_choose_a_log_file_outside_the_log_directory(
    settings: Settings,
    memory_store: MemoryStore,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    path: str,
) -> None:
    directory = tmp_path / "log"
    settings = settings._replace(plugin_log_path=str(directory / "plugin.log"))
    async with running(settings, memory_store) as node:
        await node.pool("lan", "10.6.0.0/24", "10.6.0.10")
        conf = node.netconf(ipam={"log_file_path": path.format(directory)})
        assert await node.add(conf=conf)
        assert await node.add(conf=conf)

    assert [entry.name for entry in tmp_path.rglob("*.log")] == ["plugin.log"]
    assert len((directory / "plugin.log").read_text().splitlines()) == 2
    (warning,) = (
        record.message for record in caplog.records if "wrote the plugin log" in record.message
    )
    assert f": it is not in {directory}; set log_file_path to a file in this directory" in warning


def test_netconfs_can_name_only_a_bounded_number_of_log_files(
    short_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("nodeagent.servers.call_log_lines.NETWORK_FILES_MAX", 2)
    default = str(short_path / "plugin.log")
    directory = LogDirectory(default)
    requested = [str(short_path / f"{name}.log") for name in "abca"]

    assert [directory.file_for(path) for path in requested] == [
        *requested[:2],
        default,
        requested[0],
    ]
    assert "network configurations name more than 2 files" in caplog.text


def test_the_plugin_log_does_not_follow_symbolic_links(short_path: Path) -> None:
    target = short_path / "target"
    target.touch()
    (short_path / "plugin.log").symlink_to(target)
    log = PluginLog()
    log.write(LogTarget(str(short_path / "plugin.log")), "info", {"number": 1})

    log.start()
    log.close()

    assert target.read_text() == ""


def test_a_log_is_written_again_when_its_path_becomes_writable(
    short_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nodeagent.telemetry.plugin_log.RETRY_S", 0.0)
    path = short_path / "plugin.log"
    path.mkdir()
    log = PluginLog()
    target = LogTarget(str(path))
    log.write(target, "info", {"number": 1})
    log._flush()
    unusable = set(log._unusable_until)
    assert log.dropped == 1
    path.rmdir()
    log.write(target, "info", {"number": 2})
    log.start()
    log.close()

    assert unusable == {str(path)}
    assert log._unusable_until == {}
    assert json.loads(path.read_text())["number"] == 2
