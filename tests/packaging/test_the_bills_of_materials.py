"""``scripts/sbom.py``: the packages of an image, read from its layers."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

from scripts.sbom import make_bill, read_image

STATUS = """Package: libc6
Status: install ok installed
Architecture: amd64
Version: 2.41-12

Package: gone
Status: deinstall ok config-files
Architecture: amd64
Version: 1
"""
SITE = "opt/orbweaver/lib/python3.13/site-packages"
CREATED = "2026-11-30T16:47:21Z"


def test_packages_of_debian_and_of_python_are_listed(tmp_path: Path) -> None:
    layers = [
        {
            "var/lib/dpkg/status": STATUS,
            f"{SITE}/grpcio-1.76.0.dist-info/METADATA": "Name: grpcio\nVersion: 1.76.0\n",
            f"{SITE}/pip-25.1.dist-info/METADATA": "Name: pip\nVersion: 25.1\n",
        },
        {f"{SITE}/.wh.pip-25.1.dist-info": ""},
    ]

    bill = bill_of(image(tmp_path, layers))

    assert {component["purl"] for component in bill["components"]} == {
        "pkg:deb/debian/libc6@2.41-12?arch=amd64",
        "pkg:pypi/grpcio@1.76.0",
    }
    assert bill["metadata"]["component"]["name"] == "orbweaver-agent"


def test_equal_images_have_equal_bills(tmp_path: Path) -> None:
    archive = image(tmp_path, [{"var/lib/dpkg/status": STATUS}])

    assert bill_of(archive) == bill_of(archive)


def bill_of(archive: Path) -> dict[str, Any]:
    """The document."""
    return dict(json.loads(make_bill(*read_image(archive))))


def image(directory: Path, layers: list[dict[str, str]]) -> Path:
    """A docker-archive with these layers."""
    config = {
        "created": CREATED,
        "config": {"Labels": {"org.opencontainers.image.title": "orbweaver-agent"}},
    }
    names = [f"{number}.tar" for number, _ in enumerate(layers)]
    manifest = [{"Config": "abc.json", "RepoTags": ["a:1"], "Layers": names}]
    files = {
        "manifest.json": json.dumps(manifest).encode(),
        "abc.json": json.dumps(config).encode(),
    }
    for name, layer in zip(names, layers, strict=True):
        files[name] = tar({path: text.encode() for path, text in layer.items()})
    path = directory / "image.tar"
    path.write_bytes(tar(files))
    return path


def tar(files: dict[str, bytes]) -> bytes:
    """An archive of files."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()
