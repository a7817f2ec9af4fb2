"""Programs and maps stay in the kernel after the agent ends only if a bpffs is mounted."""

from __future__ import annotations

import signal
import subprocess
import sys
from errno import EINVAL, ENOSPC
from pathlib import Path
from typing import Final

import pytest

from core.errors import BadInput, BpfRefused, DatapathError
from nodeagent.clusterip import bpf_installation, map_layout
from nodeagent.clusterip.bpf_installation import (
    LINKS_DIRECTORY,
    MAPS_DIRECTORY,
    PIN_DIRECTORY,
    Installation,
    remove_pinned_objects,
    served_frontends,
)
from nodeagent.clusterip.bpf_programs import PROGRAM_HOOKS, DesiredPrograms
from nodeagent.clusterip.frontends import BackendGroup
from nodeagent.clusterip.map_plan import Contents, contents_of, plan
from nodeagent.clusterip.pod_cgroups import is_in_bpffs, pods_cgroup
from nodeagent.ebpf.calls import MapSpec, create_map, load_program
from nodeagent.ebpf.instructions import Register, Size, assemble, leave, load
from nodeagent.ebpf.numbers import (
    BPF_CGROUP_INET4_CONNECT,
    BPF_MAP_TYPE_HASH,
    BPF_PROG_TYPE_CGROUP_SOCK_ADDR,
)
from ops.lab.programs import console_script
from tests.nodeagent.clusterip.clusterip_harness import (
    BACKEND_ADDRESSES,
    BACKEND_PORT,
    SERVICE_ADDRESS,
    SERVICE_PORT,
    ClusterIPHarness,
    backends_of,
    frontend,
)
from tests.support.descriptors import open_descriptors

pytestmark = pytest.mark.netns

OTHER_AGENT: Final = """
import sys, time
from pathlib import Path
from nodeagent.clusterip.bpf_installation import Installation
from nodeagent.clusterip.bpf_programs import DesiredPrograms
installation = Installation.open(Path(sys.argv[1]))
installation.attach(Path(sys.argv[2]), DesiredPrograms(skipped_netns=0))
print("attached", flush=True)
sys.stdin.read()
"""


def is_served(harness: ClusterIPHarness) -> bool:
    with harness.socket(4) as client:
        try:
            client.connect((SERVICE_ADDRESS[4], SERVICE_PORT))
        except OSError:
            return False
    return True


def start_another_agent(harness: ClusterIPHarness) -> subprocess.Popen[bytes]:
    arguments = [sys.executable, "-c", OTHER_AGENT, str(harness.bpffs), str(harness.cgroup)]
    agent = subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert agent.stdout is not None
    assert agent.stdout.readline() == b"attached\n"
    return agent


def kill(agent: subprocess.Popen[bytes]) -> None:
    agent.send_signal(signal.SIGKILL)
    agent.communicate()


@pytest.fixture
def pinned_harness(harness: ClusterIPHarness) -> ClusterIPHarness:
    """A harness with pinned programs that serve one backend; their agent was killed."""
    harness.mount_bpffs()
    harness.server(BACKEND_ADDRESSES[4][0])
    installation = harness.install()
    harness.serve(installation, {frontend(4): BackendGroup(backends_of(4, 0))})
    installation.close()
    agent = start_another_agent(harness)
    kill(agent)
    return harness


def test_pinned_programs_serve_while_no_agent_runs(pinned_harness: ClusterIPHarness) -> None:
    assert is_served(pinned_harness)


def test_the_next_agent_continues_with_the_pinned_maps(pinned_harness: ClusterIPHarness) -> None:
    installation = Installation.open(pinned_harness.bpffs)
    entry = contents_of(installation.read()).entries[frontend(4)]
    assert entry.backend_group == BackendGroup(backends_of(4, 0))
    assert is_served(pinned_harness)
    installation.attach(pinned_harness.cgroup, DesiredPrograms(skipped_netns=0))
    assert is_served(pinned_harness)
    pinned_harness.serve(installation, {frontend(4): BackendGroup()})
    assert not is_served(pinned_harness)
    installation.close()


def test_attach_moves_pinned_links_to_another_control_group(
    pinned_harness: ClusterIPHarness,
) -> None:
    inner_cgroup = pinned_harness.cgroup.parent / f"{pinned_harness.cgroup.name}-inner"
    inner_cgroup.mkdir()
    installation = Installation.open(pinned_harness.bpffs)
    installation.attach(inner_cgroup, DesiredPrograms(skipped_netns=0))
    assert installation.is_attached(inner_cgroup)
    assert not is_served(pinned_harness)
    installation.attach(pinned_harness.cgroup, DesiredPrograms(skipped_netns=0))
    assert is_served(pinned_harness)
    inner_cgroup.rmdir()
    assert not installation.is_attached(inner_cgroup)
    installation.close()


def test_attach_closes_its_descriptors_if_a_program_is_refused(
    pinned_harness: ClusterIPHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(link: int, program: int) -> None:
        raise BpfRefused(f"cannot replace program {program} of link {link}", errno=EINVAL)

    installation = Installation.open(pinned_harness.bpffs)
    before = open_descriptors()
    monkeypatch.setattr(bpf_installation, "replace_program", refuse)
    with pytest.raises(BpfRefused, match="cannot replace program"):
        installation.attach(pinned_harness.cgroup, DesiredPrograms(skipped_netns=0))
    assert open_descriptors() <= before
    installation.close()


def test_open_closes_its_descriptors_if_a_map_cannot_be_pinned(
    harness: ClusterIPHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(fd: int, path: Path) -> None:
        raise BpfRefused(f"cannot pin {fd} at {path}", errno=ENOSPC)

    harness.mount_bpffs()
    before = open_descriptors()
    monkeypatch.setattr(bpf_installation, "pin", refuse)
    with pytest.raises(BpfRefused, match="cannot pin"):
        Installation.open(harness.bpffs)
    assert open_descriptors() <= before


def test_a_full_map_gets_a_new_service_in_place_of_a_removed_one(
    cluster_ip_can_run: None,
) -> None:
    specs = (map_layout.SERVICES._replace(entries_max=1), map_layout.BACKENDS, map_layout.MEMBERS)
    installation = Installation(None, {spec.name: create_map(spec) for spec in specs})
    contents = Contents()
    for port in (80, 81):
        desired = {frontend(4, port=port): BackendGroup(backends_of(4, 0))}
        steps, contents = plan(contents, desired)
        installation.write(steps)
        assert contents_of(installation.read()).entries == contents.entries
    installation.close()


def test_backends_of_an_interrupted_change_make_room_for_the_next_change(
    cluster_ip_can_run: None,
) -> None:
    used_and_new = 2
    specs = (
        map_layout.SERVICES,
        map_layout.BACKENDS._replace(entries_max=used_and_new),
        map_layout.MEMBERS._replace(entries_max=used_and_new),
    )
    installation = Installation(None, {spec.name: create_map(spec) for spec in specs})
    groups = [BackendGroup(backends_of(4, number), affinity_s=60) for number in range(3)]
    steps, contents = plan(Contents(), {frontend(4): groups[0]})
    installation.write(steps)
    steps, _ = plan(contents, {frontend(4): groups[1]})
    installation.write(
        steps._replace(put_services={}, remove_backends=frozenset(), remove_members=frozenset())
    )
    steps, contents = plan(contents_of(installation.read()), {frontend(4): groups[2]})
    installation.write(steps)
    assert contents_of(installation.read()).entries == contents.entries
    installation.close()


def test_maps_of_another_layout_are_removed_after_attaching(
    pinned_harness: ClusterIPHarness,
) -> None:
    # The directory is named after the version of the map layout.
    old_maps = pinned_harness.bpffs / PIN_DIRECTORY / "v0"
    old_maps.mkdir()
    installation = pinned_harness.install()
    assert not old_maps.exists()
    names = {
        path.name for path in (pinned_harness.bpffs / PIN_DIRECTORY / LINKS_DIRECTORY).iterdir()
    }
    assert names == {hook.name for hook in PROGRAM_HOOKS}
    assert (pinned_harness.bpffs / PIN_DIRECTORY / MAPS_DIRECTORY).is_dir()
    assert installation.is_pinned


def test_trace_path_prints_the_backend_of_a_served_cluster_ip(
    pinned_harness: ClusterIPHarness,
) -> None:
    command = [
        console_script("orbctl"),
        "trace-path",
        "web-0",
        f"{SERVICE_ADDRESS[4]}:{SERVICE_PORT}",
    ]
    command += ["--netns", str(pinned_harness.named.path), "--bpffs", str(pinned_harness.bpffs)]
    text = pinned_harness.named.run(*command)
    backend = f"{BACKEND_ADDRESSES[4][0]}:{BACKEND_PORT}"
    assert (
        f"ClusterIP port {SERVICE_PORT}/TCP: sockets connect to {backend}, the only backend" in text
    )
    assert "there: arrives in the Pod itself" in text
    assert "ClusterIP" not in pinned_harness.named.run(*command, "--protocol", "udp")
    assert remove_pinned_objects(pinned_harness.bpffs), "expected pinned objects"
    assert served_frontends(pinned_harness.bpffs) == {}


def test_remove_pinned_objects_detaches_the_programs_and_removes_their_directory(
    pinned_harness: ClusterIPHarness,
) -> None:
    assert remove_pinned_objects(pinned_harness.bpffs)
    assert not is_served(pinned_harness)
    assert not (pinned_harness.bpffs / PIN_DIRECTORY).exists()
    assert not remove_pinned_objects(pinned_harness.bpffs), "expected no pinned object"


def test_services_are_served_only_while_an_agent_runs_if_no_bpffs_is_mounted(
    harness: ClusterIPHarness,
) -> None:
    harness.server(BACKEND_ADDRESSES[4][0])
    agent = start_another_agent(harness)
    kill(agent)
    assert not is_served(harness)
    installation = harness.install()
    assert not installation.is_pinned
    harness.serve(installation, {frontend(4): BackendGroup(backends_of(4, 0))})
    assert is_served(harness)


def test_objects_can_be_pinned_only_in_a_bpffs(
    pinned_harness: ClusterIPHarness, tmp_path: Path
) -> None:
    assert is_in_bpffs(pinned_harness.bpffs / PIN_DIRECTORY)
    assert not is_in_bpffs(tmp_path)


def test_the_control_group_of_pods_must_be_of_version_2(
    harness: ClusterIPHarness, tmp_path: Path
) -> None:
    assert pods_cgroup(str(harness.cgroup)) == harness.cgroup
    with pytest.raises(BadInput, match="is not a control group of version 2"):
        pods_cgroup(str(tmp_path))
    with pytest.raises(DatapathError, match="there is no control group"):
        pods_cgroup(str(tmp_path / "none"))


def test_the_error_of_a_refused_program_has_the_verifiers_log(cluster_ip_can_run: None) -> None:
    code = assemble([load(Size.WORD, Register.R0, Register.R1, 4_096), leave()], {})
    kind = BPF_PROG_TYPE_CGROUP_SOCK_ADDR
    with pytest.raises(BpfRefused, match="invalid bpf_context access off=4096"):
        load_program("wrong", kind, BPF_CGROUP_INET4_CONNECT, code)


def test_the_error_of_a_full_map_has_the_maps_name_and_limit(cluster_ip_can_run: None) -> None:
    small = create_map(MapSpec("small", BPF_MAP_TYPE_HASH, 4, 4, 1))
    small.put(bytes(4), bytes(4))
    with pytest.raises(BpfRefused, match="map small is full: it holds 1 entry"):
        small.put(b"\1\0\0\0", bytes(4))
    small.close()
