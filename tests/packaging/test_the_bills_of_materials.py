"""``scripts/sbom.py`` writes a bill of materials: a list of the packages in an image.

A file ``.wh.NAME`` in a layer of an image deletes NAME from lower layers.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from scripts.sbom import make_bill, read_image

DPKG_STATUS_PATH = "var/lib/dpkg/status"
DPKG_STATUS = """Package: libc6
Status: install ok installed
Architecture: amd64
Version: 2.41-12

Package: gone
Status: deinstall ok config-files
Architecture: amd64
Version: 1
"""
COPYRIGHT_WITH_FIELDS = """Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/

Files: *
License: LGPL-2.1+
 On Debian systems the text is in /usr/share/common-licenses/LGPL-2.1.

Files: debian/*
License: bsd-3-clause
"""
LONG_EXPRESSION = (
    "Apache-2.0 AND BSD-3-Clause AND (GPL-2.0-or-later OR LGPL-2.1-or-later) AND MPL-2.0"
)
CLASSIFIER = "Classifier: License :: OSI Approved :: "
COPYRIGHT_IN_FREE_TEXT = (
    "License: see /usr/share/common-licenses/GPL-2, or /usr/share/common-licenses/Artistic."
)
SITE_PACKAGES = "opt/orbweaver/lib/python3.13/site-packages"
CREATED = "2026-11-30T16:47:21Z"


class SymbolicLink(NamedTuple):
    target: str


Layer = Mapping[str, "str | SymbolicLink"]
"""Path -> text of a file, or a link."""


def test_a_bill_lists_only_installed_debian_and_python_packages(tmp_path: Path) -> None:
    layers = [
        {
            DPKG_STATUS_PATH: DPKG_STATUS,
            f"{SITE_PACKAGES}/grpcio-1.76.0.dist-info/METADATA": "Name: grpcio\nVersion: 1.76.0\n",
            f"{SITE_PACKAGES}/pip-25.1.dist-info/METADATA": "Name: pip\nVersion: 25.1\n",
        },
        {f"{SITE_PACKAGES}/.wh.pip-25.1.dist-info": ""},
    ]

    bill = bill_of(write_image(tmp_path, layers))

    assert {component["purl"] for component in bill["components"]} == {
        "pkg:deb/debian/libc6@2.41-12?arch=amd64",
        "pkg:pypi/grpcio@1.76.0",
    }
    assert bill["metadata"]["component"]["name"] == "orbweaver-agent"


@pytest.mark.parametrize(
    ("text", "licenses"),
    [
        (COPYRIGHT_WITH_FIELDS, {"LGPL-2.1+", "BSD-3-Clause"}),
        (COPYRIGHT_IN_FREE_TEXT, {"GPL-2", "Artistic"}),
        ("Permission is hereby granted ...", set()),
    ],
)
def test_a_debian_package_has_the_licenses_of_its_copyright_file(
    tmp_path: Path, text: str, licenses: set[str]
) -> None:
    layers = [{DPKG_STATUS_PATH: DPKG_STATUS, "usr/share/doc/libc6/copyright": text}]

    assert licenses_of(write_image(tmp_path, layers)) == licenses


def test_a_copyright_file_is_found_through_a_symbolic_link(tmp_path: Path) -> None:
    layers: list[Layer] = [
        {DPKG_STATUS_PATH: DPKG_STATUS, "usr/share/doc/libc-bin/copyright": COPYRIGHT_WITH_FIELDS},
        {"usr/share/doc/libc6": SymbolicLink("libc-bin")},
    ]

    assert licenses_of(write_image(tmp_path, layers)) == {"LGPL-2.1+", "BSD-3-Clause"}


@pytest.mark.parametrize(
    ("fields", "licenses"),
    [
        ("License-Expression: MIT OR Apache-2.0\nLicense: MIT", {"MIT OR Apache-2.0"}),
        (f"License-Expression: {LONG_EXPRESSION}\n{CLASSIFIER}MIT", {LONG_EXPRESSION}),
        ("License: 3-Clause BSD License", {"3-Clause BSD License"}),
        (f"License: {'Permission is hereby granted ... ' * 3}\n{CLASSIFIER}MIT", {"MIT"}),
        (f"License: UNKNOWN\n{CLASSIFIER}BSD License\n{CLASSIFIER}MIT", {"BSD License", "MIT"}),
        ("Classifier: Programming Language :: C", set()),
    ],
)
def test_a_python_package_has_the_licenses_of_its_metadata(
    tmp_path: Path, fields: str, licenses: set[str]
) -> None:
    metadata = f"Name: grpcio\nVersion: 1.76.0\n{fields}\n"
    layers = [{f"{SITE_PACKAGES}/grpcio-1.76.0.dist-info/METADATA": metadata}]

    assert licenses_of(write_image(tmp_path, layers)) == licenses


def test_a_package_that_a_higher_layer_hides_is_not_listed(tmp_path: Path) -> None:
    """``.wh..wh..opq`` hides all files that lower layers have in its folder."""
    old, new = (f"{SITE_PACKAGES}/{name}.dist-info/METADATA" for name in ("pip-25.1", "pip-26.0"))
    layers = [
        {old: "Name: pip\nVersion: 25.1\n"},
        {new: "Name: pip\nVersion: 26.0\n", f"{SITE_PACKAGES}/.wh..wh..opq": ""},
    ]

    (component,) = bill_of(write_image(tmp_path, layers))["components"]

    assert component["version"] == "26.0"


@pytest.mark.parametrize("whiteout", [".wh.opt", ".wh..wh..opq"])
def test_a_whiteout_in_the_root_of_a_layer_hides_packages(tmp_path: Path, whiteout: str) -> None:
    pip = f"{SITE_PACKAGES}/pip-25.1.dist-info/METADATA"
    layers = [{pip: "Name: pip\nVersion: 25.1\n"}, {whiteout: ""}]

    assert bill_of(write_image(tmp_path, layers)).get("components", []) == []


def test_two_bills_of_one_image_are_equal(tmp_path: Path) -> None:
    archive = write_image(tmp_path, [{DPKG_STATUS_PATH: DPKG_STATUS}])

    assert bill_of(archive) == bill_of(archive)


def bill_of(archive: Path) -> dict[str, Any]:
    return dict(json.loads(make_bill(*read_image(archive))))


def licenses_of(archive: Path) -> set[str]:
    """The ids, names or expressions of the only component's licenses."""
    (component,) = bill_of(archive)["components"]
    return {
        str(value)
        for choice in component.get("licenses", ())
        for value in (choice.get("license") or choice).values()
    }


def write_image(directory: Path, layers: Sequence[Layer]) -> Path:
    """Write a docker-archive of an image."""
    config = {
        "created": CREATED,
        "config": {"Labels": {"org.opencontainers.image.title": "orbweaver-agent"}},
    }
    names = [f"{number}.tar" for number, _ in enumerate(layers)]
    manifest = [{"Config": "abc.json", "RepoTags": ["a:1"], "Layers": names}]
    files: dict[str, bytes] = {
        "manifest.json": json.dumps(manifest).encode(),
        "abc.json": json.dumps(config).encode(),
    }
    for name, layer in zip(names, layers, strict=True):
        files[name] = tar(layer)
    path = directory / "image.tar"
    path.write_bytes(tar(files))
    return path


def tar(files: Mapping[str, str | bytes | SymbolicLink]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            if isinstance(content, SymbolicLink):
                entry.type, entry.linkname = tarfile.SYMTYPE, content.target
                archive.addfile(entry)
                continue
            encoded = content.encode() if isinstance(content, str) else content
            entry.size = len(encoded)
            archive.addfile(entry, io.BytesIO(encoded))
    return buffer.getvalue()
