"""The output formats of ``-o`` (docs/reference/orbctl.md)."""

from __future__ import annotations

from enum import StrEnum
from typing import Final, NamedTuple

from core.errors import BadInput


class Format(StrEnum):
    """The name of an output format."""

    TABLE = "table"
    WIDE = "wide"
    JSON = "json"
    YAML = "yaml"
    NAME = "name"
    CSV = "csv"
    JSONPATH = "jsonpath"
    CUSTOM_COLUMNS = "custom-columns"


FORMATS_WITH_TEMPLATE: Final = (Format.JSONPATH, Format.CUSTOM_COLUMNS)


class Output(NamedTuple):
    """An output format with its template."""

    format: Format
    template: str = ""

    @property
    def is_structured(self) -> bool:
        """Whether the output is made from whole objects."""
        return self.format in (Format.JSON, Format.YAML, *FORMATS_WITH_TEMPLATE)

    @property
    def is_wide(self) -> bool:
        """Whether a table has all columns."""
        return self.format in (Format.WIDE, Format.CSV)

    @property
    def is_name(self) -> bool:
        """Whether only names are printed."""
        return self.format is Format.NAME


TABLE_OUTPUT: Final = Output(Format.TABLE)


def parse_output(text: str) -> Output:
    """Parse the value of ``-o``. Raises BadInput."""
    name, _, template = text.removeprefix("=").partition("=")  # ``-o=json`` passes "=json"
    formats = [known.value for known in Format]
    if name not in formats:
        raise BadInput(
            f"{name[:64]!r} is not an output format",
            subject="--output",
            remedy=f"use one of {', '.join(formats)}",
        )
    output = Output(Format(name), template)
    if (output.format in FORMATS_WITH_TEMPLATE) != bool(template):
        if template:
            problem, remedy = "takes no template", f"write -o {name}"
        else:
            problem = "needs a template"
            remedy = (
                "write a template, such as jsonpath='{.metadata.name}' or"
                " custom-columns=NAME:.metadata.name"
            )
        raise BadInput(f"-o {name} {problem}", subject="--output", remedy=remedy)
    return output


def complete_output(incomplete: str) -> list[str]:
    """Formats for shell completion."""
    formats = [f"{known}=" if known in FORMATS_WITH_TEMPLATE else known.value for known in Format]
    return [text for text in formats if text.startswith(incomplete)]
