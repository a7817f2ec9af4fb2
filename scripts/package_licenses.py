"""Reads the licenses of a Debian package (copyright file) or a Python package (metadata)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from email.message import Message
from typing import Final

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model.license import License
from cyclonedx.spdx import fixup_id

NAME_CHARS_MAX: Final = 64
"""A longer value of the field ``License`` is the text of a license, not a name."""

_MACHINE_READABLE: Final = re.compile(r"^Format(?:-Specification)?:", re.MULTILINE)
"""The first field of a machine-readable copyright file (Debian's copyright-format)."""

_LICENSE_FIELD: Final = re.compile(r"^License:[ \t]*(\S.*?)[ \t]*$", re.MULTILINE)
_COMMON_LICENSE: Final = re.compile(r"/usr/share/common-licenses/([A-Za-z0-9.+-]*[A-Za-z0-9+])")
"""A reference to a license in a copyright file that is not machine-readable."""

_CLASSIFIER: Final = "License :: OSI Approved :: "
_FACTORY: Final = LicenseFactory()


def debian_licenses(copyright_file: str) -> list[License]:
    """Return the licenses of a Debian package, by SPDX id or Debian's short name.

    Empty if the file has only the text of a license.
    """
    pattern = _LICENSE_FIELD if _MACHINE_READABLE.search(copyright_file) else _COMMON_LICENSE
    return _licenses_of_names(pattern.findall(copyright_file))


def python_licenses(metadata: Message) -> list[License]:
    """Return the licenses of a Python package: an SPDX expression, or SPDX ids and names."""
    if expression := metadata["License-Expression"]:
        return [_FACTORY.make_from_string(expression)]
    name = metadata["License"] or ""
    if name and name != "UNKNOWN" and "\n" not in name and len(name) <= NAME_CHARS_MAX:
        return [_FACTORY.make_from_string(name)]
    classifiers = metadata.get_all("Classifier") or ()
    return _licenses_of_names(
        text.removeprefix(_CLASSIFIER) for text in classifiers if text.startswith(_CLASSIFIER)
    )


def _licenses_of_names(names: Iterable[str]) -> list[License]:
    """One license for each name; CycloneDX allows no SPDX expression in a list of licenses."""
    return [
        _FACTORY.make_with_id(name) if fixup_id(name) else _FACTORY.make_with_name(name)
        for name in sorted(set(names))
    ]
