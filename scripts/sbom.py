"""Writes the bill of materials of an image (CycloneDX JSON): its Debian and Python packages.

    python -m scripts.sbom IMAGE.tar OUTPUT.cdx.json

``IMAGE.tar`` is a docker-archive, as ``docker save`` and ``buildah push docker-archive:`` write it.
"""

from __future__ import annotations

import json
import sys
import tarfile
import uuid
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from email.parser import HeaderParser
from pathlib import Path
from typing import IO, Any, Final

from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL

DPKG_STATUS: Final = "var/lib/dpkg/status"
"""One paragraph (deb-control(5)) for each installed Debian package."""

METADATA_SUFFIX: Final = ".dist-info/METADATA"
NAMESPACE: Final = uuid.uuid5(uuid.NAMESPACE_URL, "urn:orbweaver:image")
"""Serial numbers are made from image digests in this namespace, so that equal images have equal
bills."""


def main(arguments: list[str]) -> None:
    """Read the archive and write the bill."""
    archive, output = map(Path, arguments)
    config, components = read_image(archive)
    output.write_text(make_bill(config, components))


def read_image(archive: Path) -> tuple[dict[str, Any], list[Component]]:
    """Read the image's configuration and packages; upper layers replace files of lower layers."""
    files: dict[str, bytes] = {}
    with tarfile.open(archive) as image:
        manifest = json.load(_member(image, "manifest.json"))[0]
        config = json.load(_member(image, manifest["Config"]))
        config["digest"] = Path(manifest["Config"]).stem
        for layer in manifest["Layers"]:
            with tarfile.open(fileobj=_member(image, layer)) as entries:
                _read_layer(entries, files)
    components = list(_debian_packages(files.pop(DPKG_STATUS, b"").decode()))
    components += [_python_distribution(text.decode()) for text in files.values()]
    return config, sorted(components, key=lambda component: str(component.purl))


def make_bill(config: dict[str, Any], components: Iterable[Component]) -> str:
    """Make the document. Its time is that of the image, so that equal images have equal bills."""
    labels = config.get("config", {}).get("Labels") or {}
    title = labels.get("org.opencontainers.image.title", "image")
    version = labels.get("org.opencontainers.image.version", "")
    bill = Bom(serial_number=uuid.uuid5(NAMESPACE, config["digest"]), components=components)
    bill.metadata.timestamp = datetime.fromisoformat(config["created"]).astimezone(UTC)
    bill.metadata.component = Component(
        name=title, version=version, type=ComponentType.CONTAINER, bom_ref=title
    )
    bill.register_dependency(bill.metadata.component, bill.components)
    return JsonV1Dot6(bill).output_as_string(indent=1)


def _member(archive: tarfile.TarFile, name: str) -> IO[bytes]:
    file = archive.extractfile(name)
    if file is None:
        raise SystemExit(f"sbom: the archive has no file {name}: is it made by `docker save`?")
    return file


def _read_layer(entries: tarfile.TarFile, files: dict[str, bytes]) -> None:
    for entry in entries:
        name = entry.name.removeprefix("./")
        folder, _, base = name.rpartition("/")
        if base.startswith(".wh."):  # a whiteout: this layer deletes the file or folder
            hidden = f"{folder}/{base.removeprefix('.wh.')}"
            for path in [path for path in files if path == hidden or path.startswith(f"{hidden}/")]:
                del files[path]
        elif entry.isfile() and (name == DPKG_STATUS or name.endswith(METADATA_SUFFIX)):
            files[name] = _member(entries, entry.name).read()


def _debian_packages(status: str) -> Iterator[Component]:
    for paragraph in status.strip().split("\n\n"):
        fields = HeaderParser().parsestr(paragraph)
        if not fields["Package"] or "installed" not in fields.get("Status", "").split():
            continue
        name, version = fields["Package"], fields["Version"]
        purl = PackageURL("deb", "debian", name, version, {"arch": fields["Architecture"]})
        yield Component(name=name, version=version, purl=purl, bom_ref=str(purl))


def _python_distribution(metadata: str) -> Component:
    fields = HeaderParser().parsestr(metadata)
    name, version = fields["Name"], fields["Version"]
    purl = PackageURL("pypi", None, name, version)
    return Component(name=name, version=version, purl=purl, bom_ref=str(purl))


if __name__ == "__main__":
    main(sys.argv[1:])
