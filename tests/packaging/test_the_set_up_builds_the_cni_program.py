"""`scripts/setup.sh` builds the CNI program if the program is missing or older than its source."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LOCKS = ("requirements/build.txt", "requirements/lock.txt")
PROJECT_FILES = (
    "pyproject.toml",
    "README.md",
    "core/__init__.py",
    "hatch_build.py",
    "cni/build.py",
    "cni/plugin.c",
)
SET_UP_S_MAX = 120


@pytest.fixture
def work_tree(tmp_path: Path) -> Path:
    """A work tree without the CNI program; stamps in .venv prevent installations."""
    for name in ("scripts/setup.sh", "cni/__init__.py", *LOCKS, *PROJECT_FILES):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, tmp_path / name)
    subprocess.run([sys.executable, "-m", "venv", tmp_path / ".venv"], check=True)
    compiler = shutil.which(os.environ.get("CC", "musl-gcc"))
    for stamp, lines, files in (
        ("run", [str(tmp_path)], LOCKS),
        ("project", [str(tmp_path), *([compiler] if compiler else [])], PROJECT_FILES),
    ):
        digests = subprocess.check_output(["sha256sum", *files], cwd=tmp_path, text=True)
        text = "\n".join([*lines, digests])
        (tmp_path / f".venv/.stamp-{stamp}").write_text(text)
    assert "missing for 'run': (cni/plugin);" in set_up(tmp_path, "--check").stderr
    return tmp_path


def set_up(work_tree: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["scripts/setup.sh", *options, "run"],
        cwd=work_tree,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=SET_UP_S_MAX,
    )


def test_the_program_is_built_if_it_is_missing_or_older_than_its_source(
    work_tree: Path,
) -> None:
    program = work_tree / "cni/plugin"

    assert "setup: building cni/plugin: it is missing" in set_up(work_tree).stderr
    assert subprocess.run([program], env={"CNI_COMMAND": "VERSION"}, check=False).returncode == 0
    assert set_up(work_tree, "--check").returncode == 0

    second_run = set_up(work_tree)
    assert second_run.returncode == 0
    assert "building" not in second_run.stderr

    built_ns = program.stat().st_mtime_ns
    second_later_ns = built_ns + 10**9
    os.utime(work_tree / "cni/plugin.c", ns=(second_later_ns, second_later_ns))
    os.utime(program, ns=(built_ns, built_ns))
    assert set_up(work_tree, "--check").returncode == 1
    assert "setup: building cni/plugin: it is older than its source" in set_up(work_tree).stderr
