"""The lock files pin all dependencies by hash, for every supported platform."""

from __future__ import annotations

import re

import pytest

from tests.packaging.project import PROJECT_ROOT, normal, pins, pyproject, required

LOCKS = ("build.txt", "dev.txt", "docs.txt", "lock.txt")
LOCATION = re.compile(r"://|^\s*-|find-links|index-url|@ ", re.MULTILINE)


@pytest.mark.parametrize("lock", LOCKS)
def test_every_line_is_a_pin_a_hash_or_a_comment(lock: str) -> None:
    text = (PROJECT_ROOT / "requirements" / lock).read_text(encoding="utf-8")
    entries = re.split(r"^(?=[a-z0-9])", text, flags=re.MULTILINE)[1:]

    assert entries
    assert all(re.match(r"[a-z0-9._-]+==\S+", entry) for entry in entries)
    assert all("--hash=sha256:" in entry for entry in entries)


@pytest.mark.parametrize("lock", LOCKS)
def test_no_lock_names_a_download_location(lock: str) -> None:
    text = (
        (PROJECT_ROOT / "requirements" / lock)
        .read_text(encoding="utf-8")
        .replace("    --hash=", "")
    )

    assert LOCATION.findall(text) == []


def test_development_and_installation_use_the_same_versions() -> None:
    assert pins("lock.txt").items() <= pins("dev.txt").items()
    assert pins("build.txt").items() <= pins("dev.txt").items()


def test_the_site_and_the_tests_share_their_versions_of_a_package() -> None:
    site, tests = pins("docs.txt"), pins("dev.txt")

    assert {name: site[name] for name in site.keys() & tests.keys()}.items() <= tests.items()


def test_every_declared_dependency_is_locked() -> None:
    project = pyproject()["project"]
    extras = project["optional-dependencies"]

    assert required(project["dependencies"] + extras["otlp"]) <= pins("lock.txt").keys()
    extra_requirements = [name for extra in extras.values() for name in extra]
    assert required(extra_requirements) <= pins("dev.txt").keys() | pins("docs.txt").keys()
    assert required(extras["docs"]) <= pins("docs.txt").keys()
    assert required(pyproject()["build-system"]["requires"]) <= pins("build.txt").keys()


def test_names_are_compared_as_registries_do() -> None:
    assert normal("Prometheus_Client") == normal("prometheus.client") == "prometheus-client"
