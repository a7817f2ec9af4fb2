"""The wheel has the product's packages, type markers and commands, and no other files."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from importlib import import_module
from pathlib import Path

import pytest

import core
from tests.packaging.project import PRODUCT_PACKAGES, PROJECT_ROOT, console_scripts

FOLDERS_OUTSIDE_THE_WHEEL = ("ops/demo/", "ops/lab/")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=PROJECT_ROOT, check=True, capture_output=True, text=True)
    (built,) = folder.glob("*.whl")
    return zipfile.ZipFile(built)


def test_the_wheel_has_every_module_the_type_markers_and_the_files_of_the_console(
    wheel: zipfile.ZipFile,
) -> None:
    expected = {
        path.relative_to(PROJECT_ROOT).as_posix()
        for package in PRODUCT_PACKAGES
        for path in (PROJECT_ROOT / package).rglob("*.py")
    }
    expected = {path for path in expected if not path.startswith(FOLDERS_OUTSIDE_THE_WHEEL)}
    console_files = (PROJECT_ROOT / "ops/console/static").rglob("*.*")
    expected |= {path.relative_to(PROJECT_ROOT).as_posix() for path in console_files}

    assert expected | {f"{package}/py.typed" for package in PRODUCT_PACKAGES} <= set(
        wheel.namelist()
    )


def test_the_wheel_has_only_product_packages_and_metadata(wheel: zipfile.ZipFile) -> None:
    top_folders = {Path(name).parts[0] for name in wheel.namelist()}

    assert top_folders == {*PRODUCT_PACKAGES, f"orbweaver_ipam-{core.__version__}.dist-info"}
    assert not [name for name in wheel.namelist() if "__pycache__" in name]


def test_lab_and_demo_are_not_in_the_wheel(wheel: zipfile.ZipFile) -> None:
    assert not [name for name in wheel.namelist() if name.startswith(FOLDERS_OUTSIDE_THE_WHEEL)]


@pytest.mark.parametrize("folder", PRODUCT_PACKAGES)
def test_no_installed_module_imports_lab_or_demo(folder: str) -> None:
    names = tuple(path.rstrip("/").replace("/", ".") for path in FOLDERS_OUTSIDE_THE_WHEEL)
    importers = [
        path
        for path in (PROJECT_ROOT / folder).rglob("*.py")
        if not path.relative_to(PROJECT_ROOT).as_posix().startswith(FOLDERS_OUTSIDE_THE_WHEEL)
        and any(name in path.read_text(encoding="utf-8") for name in names)
    ]

    assert not importers


def test_the_metadata_of_the_wheel_names_version_licence_and_commands(
    wheel: zipfile.ZipFile,
) -> None:
    folder = f"orbweaver_ipam-{core.__version__}.dist-info"
    metadata = wheel.read(f"{folder}/METADATA").decode()
    entry_points = wheel.read(f"{folder}/entry_points.txt").decode()

    assert f"\nVersion: {core.__version__}\n" in metadata
    assert "\nLicense-Expression: Apache-2.0\n" in metadata
    assert f"{folder}/licenses/LICENSE" in wheel.namelist()
    for name, target in console_scripts().items():
        assert f"{name} = {target}\n" in entry_points


@pytest.mark.parametrize("target", sorted(set(console_scripts().values())))
def test_the_function_of_every_command_exists(target: str) -> None:
    module, _, function = target.partition(":")

    assert callable(getattr(import_module(module), function))
