"""Writes the bill of materials of an image (CycloneDX JSON): packages and their licenses.

    python -m scripts.sbom IMAGE.tar OUTPUT.cdx.json

``IMAGE.tar`` is a docker-archive, the format of ``docker save``.
"""

from __future__ import annotations

import json
import posixpath
import re
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

from scripts.package_licenses import debian_licenses, python_licenses

DPKG_STATUS: Final = "var/lib/dpkg/status"
"""One paragraph (deb-control(5)) for each installed Debian package."""

METADATA_SUFFIX: Final = ".dist-info/METADATA"
DOCUMENTS: Final = "usr/share/doc"
COPYRIGHT: Final = re.compile(rf"{DOCUMENTS}/[^/]+(/copyright)?")
"""The copyright file of a Debian package, or its directory, which can be a link."""

WHITEOUT: Final = ".wh."
OPAQUE: Final = ".wh..wh..opq"
"""Whiteouts (OCI image specification) delete files of lower layers: ``WHITEOUT + name`` deletes the
file or folder ``name``, ``OPAQUE`` the content of its own folder."""

NAMESPACE: Final = uuid.uuid5(uuid.NAMESPACE_URL, "urn:orbweaver:image")
"""The UUID namespace of serial numbers. Equal image digests give equal serial numbers."""


def main(arguments: list[str]) -> None:
    """Read the archive and write the bill."""
    archive, output = map(Path, arguments)
    config, components = read_image(archive)
    output.write_text(make_bill(config, components))


class ImageFiles:
    """The files of an image that describe packages."""

    def __init__(self) -> None:
        self._contents: dict[str, bytes] = {}
        self._links: dict[str, str] = {}

    def add_layer(self, layer: tarfile.TarFile) -> None:
        """Apply the layer's whiteouts, which concern lower layers; then read the layer's files."""
        for entry in layer:
            folder, _, base = _name(entry).rpartition("/")
            if base.startswith(WHITEOUT):
                self._delete(folder, base)
        for entry in layer:
            name = _name(entry)
            if COPYRIGHT.fullmatch(name):
                self._links.pop(name, None)
                if entry.issym():
                    target = posixpath.join("/", posixpath.dirname(name), entry.linkname)
                    self._links[name] = posixpath.normpath(target).lstrip("/")
            if entry.isfile() and (
                name == DPKG_STATUS or name.endswith(METADATA_SUFFIX) or COPYRIGHT.fullmatch(name)
            ):
                self._contents[name] = _member(layer, entry.name).read()

    def text(self, name: str) -> str:
        """The text of a file; "" if absent. Links to the file or its directory are followed."""
        folder, _, base = name.rpartition("/")
        name = f"{self._links.get(folder, folder)}/{base}"
        return self._contents.get(self._links.get(name, name), b"").decode(errors="replace")

    def python_metadata(self) -> list[str]:
        names = [name for name in self._contents if name.endswith(METADATA_SUFFIX)]
        return [self.text(name) for name in names]

    def _delete(self, folder: str, base: str) -> None:
        name = "" if base == OPAQUE else base.removeprefix(WHITEOUT)
        hidden = posixpath.join(folder, name, "")
        for files in (self._contents, self._links):
            for path in [path for path in files if f"{path}/".startswith(hidden)]:
                del files[path]


def read_image(archive: Path) -> tuple[dict[str, Any], list[Component]]:
    """Read the image's configuration and packages."""
    files = ImageFiles()
    with tarfile.open(archive) as image:
        manifest = json.load(_member(image, "manifest.json"))[0]
        config = json.load(_member(image, manifest["Config"]))
        config["digest"] = Path(manifest["Config"]).stem
        for layer in manifest["Layers"]:
            with tarfile.open(fileobj=_member(image, layer)) as entries:
                files.add_layer(entries)
    components = [*_debian_packages(files), *map(_python_distribution, files.python_metadata())]
    return config, sorted(components, key=lambda component: str(component.purl))


def make_bill(config: dict[str, Any], components: Iterable[Component]) -> str:
    """Make the bill with the timestamp of the image, so that equal images have equal bills."""
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
        raise SystemExit(f"sbom: the archive has no file {name}: was it made by `docker save`?")
    return file


def _name(entry: tarfile.TarInfo) -> str:
    return entry.name.removeprefix("./")


def _debian_packages(files: ImageFiles) -> Iterator[Component]:
    for paragraph in files.text(DPKG_STATUS).strip().split("\n\n"):
        fields = HeaderParser().parsestr(paragraph)
        if not fields["Package"] or "installed" not in fields.get("Status", "").split():
            continue
        name, version = fields["Package"], fields["Version"]
        purl = PackageURL("deb", "debian", name, version, {"arch": fields["Architecture"]})
        licenses = debian_licenses(files.text(f"{DOCUMENTS}/{name}/copyright"))
        yield Component(name=name, version=version, purl=purl, bom_ref=str(purl), licenses=licenses)


def _python_distribution(metadata: str) -> Component:
    fields = HeaderParser().parsestr(metadata)
    name, version = fields["Name"], fields["Version"]
    purl = PackageURL("pypi", None, name, version)
    licenses = python_licenses(fields)
    return Component(name=name, version=version, purl=purl, bom_ref=str(purl), licenses=licenses)


if __name__ == "__main__":
    main(sys.argv[1:])
