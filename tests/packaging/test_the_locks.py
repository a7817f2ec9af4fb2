"""The lock files pin all dependencies by version and hash."""

from __future__ import annotations

import re

import pytest

from tests.packaging.project import PROJECT_ROOT, names_of, normalized, pinned_versions, pyproject

LOCK_FILES = ("build.txt", "dev.txt", "docs.txt", "lock.txt")
DOWNLOAD_LOCATION = re.compile(r"://|^\s*-|find-links|index-url|@ ", re.MULTILINE)


@pytest.mark.parametrize("lock_file", LOCK_FILES)
def test_every_entry_of_a_lock_file_has_a_version_and_a_hash(lock_file: str) -> None:
    text = (PROJECT_ROOT / "requirements" / lock_file).read_text(encoding="utf-8")
    entries = re.split(r"^(?=[a-z0-9])", text, flags=re.MULTILINE)[1:]

    assert entries
    assert all(re.match(r"[a-z0-9._-]+==\S+", entry) for entry in entries)
    assert all("--hash=sha256:" in entry for entry in entries)


@pytest.mark.parametrize("lock_file", LOCK_FILES)
def test_no_lock_file_names_a_download_location(lock_file: str) -> None:
    text = (
        (PROJECT_ROOT / "requirements" / lock_file)
        .read_text(encoding="utf-8")
        .replace("    --hash=", "")
    )

    assert DOWNLOAD_LOCATION.findall(text) == []


def test_dev_txt_has_all_versions_of_lock_txt_and_build_txt() -> None:
    assert pinned_versions("lock.txt").items() <= pinned_versions("dev.txt").items()
    assert pinned_versions("build.txt").items() <= pinned_versions("dev.txt").items()


def test_a_package_has_the_same_version_in_docs_txt_and_dev_txt() -> None:
    docs, dev = pinned_versions("docs.txt"), pinned_versions("dev.txt")

    assert {name: docs[name] for name in docs.keys() & dev.keys()}.items() <= dev.items()


def test_every_declared_dependency_is_locked() -> None:
    project = pyproject()["project"]
    extras = project["optional-dependencies"]

    assert names_of(project["dependencies"] + extras["otlp"]) <= pinned_versions("lock.txt").keys()
    extra_requirements = [name for extra in extras.values() for name in extra]
    assert (
        names_of(extra_requirements)
        <= pinned_versions("dev.txt").keys() | pinned_versions("docs.txt").keys()
    )
    assert names_of(extras["docs"]) <= pinned_versions("docs.txt").keys()
    assert names_of(pyproject()["build-system"]["requires"]) <= pinned_versions("build.txt").keys()


def test_two_spellings_of_a_distribution_are_normalized_to_one_name() -> None:
    assert normalized("Prometheus_Client") == normalized("prometheus.client") == "prometheus-client"
