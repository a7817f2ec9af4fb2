"""The compiled program needs no other file and does not crash on random inputs."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from cni.build import MUSL_COMPILER, PROGRAM_PATH, compile_plugin, compiler, musl_compiler
from ops.installer import CNI_EXECUTABLES
from tests.cni.fake_agent import answer_frame, answering
from tests.cni.plugin import (
    INVALID_NETCONF,
    LOG_FOLDER,
    TRY_AGAIN_LATER,
    Spiderpool,
    c_string,
    compiled,
    error_of,
)
from tests.cni.plugin_library import build_harness
from tests.support.emulation import needs_sanitizers
from tests.support.parts import ARM64, MUSL, needs

ARM64_COMPILER = "aarch64-linux-gnu-gcc"
RANDOM_INPUT_COUNT = 200_000
RANDOM_SEED = "1"
SANITIZER_FLAGS = ("-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
SAMPLES = (
    b'{"cniVersion":"1.0.0","name":"lan","ipam":{"type":"spiderpool","log_level":"info"}}',
    b'{"ipam":{"ipam_unix_socket_path":"/run/a.sock","log_file_path":"/var/log/a"}}',
    rb'{"ipam":{"ipam\u005funix_socket_path":"\/run\ud83d\ude00","log_file_max_size":7}}',
    b'{"type":"coordinator","logOptions":{"logFile":"/x","logMaxSize":1e9},"a":[[],{},null]}',
    b'CNI_ARGS={"ipam_unix_socket_path":7,"ipam_unix_socket_path":"x"}',
    '{"n":-0.5e+3,"t":true,"\u00e9":"\U0001f600","f":[false]}'.encode(),
)


def test_the_program_needs_no_library_and_no_interpreter() -> None:
    headers = subprocess.run(
        ["readelf", "--program-headers", "--dynamic", PROGRAM_PATH],
        check=True,
        capture_output=True,
        text=True,
    ).stdout

    assert "Position-Independent Executable" in headers or "DYN" in headers
    assert "INTERP" not in headers
    assert "NEEDED" not in headers


@pytest.mark.skipif(musl_compiler() != [MUSL_COMPILER], reason=needs(MUSL))
def test_the_program_has_no_cpuid_instruction() -> None:
    # cpuid is slow in a virtual machine.
    disassembled = subprocess.run(
        ["objdump", "--disassemble", PROGRAM_PATH], check=True, capture_output=True, text=True
    ).stdout

    assert "cpuid" not in disassembled


def test_cc_selects_the_compiler_and_gcc_is_the_last_choice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CC", f"{ARM64_COMPILER} -O3")
    assert musl_compiler() == compiler() == [ARM64_COMPILER, "-O3"]

    monkeypatch.delenv("CC")
    monkeypatch.setenv("PATH", "/nowhere")
    assert musl_compiler() == compiler() == ["gcc"]


def test_the_same_source_makes_the_same_bytes() -> None:
    # ``__wrapped__`` bypasses the cache.
    assert compiled() == compiled.__wrapped__() == PROGRAM_PATH.read_bytes()


def test_the_program_runs_in_an_otherwise_empty_root_directory(tmp_path: Path) -> None:
    shutil.copy(PROGRAM_PATH, tmp_path / "spiderpool")

    answer = subprocess.run(
        ["chroot", tmp_path, "/spiderpool"],
        env={"CNI_COMMAND": "VERSION", "PATH": "/usr/sbin:/usr/bin"},
        input=b'{"cniVersion":"0.4.0"}',
        capture_output=True,
        check=True,
    )

    assert answer.stdout.startswith(b'{"cniVersion":"0.4.0"')


@pytest.mark.skipif(
    not (shutil.which(ARM64_COMPILER) and shutil.which("qemu-aarch64")), reason=needs(ARM64)
)
def test_the_source_can_be_compiled_for_arm64(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CC", ARM64_COMPILER)
    compile_plugin(tmp_path / "spiderpool")

    answer = subprocess.run(
        ["qemu-aarch64", tmp_path / "spiderpool"],
        env={"CNI_COMMAND": "VERSION", "PATH": "/usr/bin"},
        input=b'{"cniVersion":"0.4.0"}',
        capture_output=True,
        check=True,
    )

    assert answer.stdout.startswith(b'{"cniVersion":"0.4.0"')


@pytest.mark.parametrize("name", CNI_EXECUTABLES)
def test_the_name_of_the_file_selects_the_executable(tmp_path: Path, name: str) -> None:
    shutil.copy(PROGRAM_PATH, tmp_path / name)
    (tmp_path / "other-name").symlink_to(name)

    usages = [
        subprocess.run(
            ["script", "-qec", str(tmp_path / file_name), "/dev/null"],
            env={"PATH": "/usr/bin"},
            capture_output=True,
            check=True,
        ).stdout.decode()
        for file_name in (name, "other-name")
    ]

    assert usages[0].startswith(f"{name} is a CNI plugin")
    assert usages[1].startswith("spiderpool is a CNI plugin"), "an unknown name means spiderpool"


@needs_sanitizers
def test_the_program_prints_json_and_does_not_crash_on_random_inputs(tmp_path: Path) -> None:
    program = tmp_path / "fuzz"
    build_harness(
        program, *SANITIZER_FLAGS, "-DFUZZ", f"-DLOG_DIRECTORY={c_string(tmp_path / 'nowhere')}"
    )
    paths = [tmp_path / f"sample-{number}" for number in range(len(SAMPLES))]
    for path, sample in zip(paths, SAMPLES, strict=True):
        path.write_bytes(sample)

    process = subprocess.run(
        [program, RANDOM_SEED, str(RANDOM_INPUT_COUNT), *paths],
        capture_output=True,
        text=True,
        check=False,
    )

    # The program aborts if an error object is not JSON.
    assert (process.returncode, process.stderr) == (0, "")
    assert process.stdout == f"tried {RANDOM_INPUT_COUNT} inputs\n"


@needs_sanitizers
def test_the_sanitizers_find_no_fault_in_complete_calls(
    spiderpool: Spiderpool,
) -> None:
    constants = (("LOG_DIRECTORY", c_string(LOG_FOLDER)),)
    spiderpool.path.write_bytes(compiled(constants, SANITIZER_FLAGS))

    with spiderpool.agent(answering(answer_frame(0, b"x" * (4 << 20)))):
        result = spiderpool.call(env=spiderpool.environment("ADD") | {"CNI_ARGS": "x" * 100_000})
    error_without_agent = error_of(spiderpool.call("DEL"))
    error_of_large_netconf = error_of(spiderpool.call(netconf=b"[" * (2 << 20)))

    assert (result.returncode, len(result.stdout), result.stderr) == (0, 4 << 20, b"")
    assert (error_without_agent["code"], error_of_large_netconf["code"]) == (
        TRY_AGAIN_LATER,
        INVALID_NETCONF,
    )
    assert "unhealthy" in spiderpool.log_path.read_text()


def test_a_request_with_too_many_variables_is_refused(spiderpool: Spiderpool) -> None:
    variables = {f"CNI_{number}": "x" for number in range(600)}  # the limit is 512

    error = error_of(spiderpool.call(env=spiderpool.environment("ADD") | variables))

    assert error["code"] == INVALID_NETCONF
    assert "too large" in error["msg"]
