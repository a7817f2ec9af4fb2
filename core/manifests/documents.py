"""Parse YAML text into plain documents of limited size. Raises only ``BadInput``.

Accepts only the YAML that Kubernetes uses; dates stay strings. A duplicate key is an error. The
values behind an alias count at each use, so that a small text cannot become a large document.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, Final, NamedTuple, NoReturn

import yaml
from yaml.composer import Composer
from yaml.nodes import MappingNode, Node, ScalarNode

from core.errors import BadInput

TEXT_BYTES_MAX: Final = 8 * 1024 * 1024
DOCUMENTS_MAX: Final = 10_000

DOCUMENT_VALUES_MAX: Final = 200_000
"""Keys count too, and an alias counts as all values behind it."""

DOCUMENT_DEPTH_MAX: Final = 64

_QUOTED_CHARS_MAX: Final = 80
_TAG: Final = "tag:yaml.org,2002:"
_MERGE_KEY: Final = f"{_TAG}merge"
_SUPPORTED_TAGS: Final = ("null", "bool", "int", "float", "str", "seq", "map")
_NOT_IN_JSON: Final = (f"{_TAG}timestamp", f"{_TAG}value")


class Document(NamedTuple):
    """One document. ``number`` counts from 1, including empty documents. ``value``: JSON data."""

    number: int
    value: object


def load_yaml(text: str) -> Iterator[Document]:
    """Every document that is not empty, in order.

    Raises BadInput with the number of the document and the line.
    """
    number = 1
    try:
        size = len(text.encode())
        if size > TEXT_BYTES_MAX:
            message = f"{size} bytes of YAML are more than the limit of {TEXT_BYTES_MAX}"
            raise BadInput(message, remedy="split the file")
        loader = _Loader(text)
        while loader.check_node():
            if number > DOCUMENTS_MAX:
                message = f"the YAML has more than {DOCUMENTS_MAX} documents, which is the limit"
                raise BadInput(message, remedy="split the file")
            value = loader.get_data()
            if value is not None:
                yield Document(number, value)
            number += 1
    except _TooLargeError as error:
        message = f"document {number} is too large: {error}"
        raise BadInput(message, remedy="split the document into several") from None
    except yaml.YAMLError as error:
        message = f"document {number} cannot be read: {_explained(error)}"
        raise BadInput(message, remedy="correct the YAML there") from None
    except UnicodeEncodeError:
        message = "the text cannot be read: it contains half a surrogate pair"
        raise BadInput(message, remedy="remove this character") from None
    except ValueError:
        message = f"document {number} cannot be read: a number is malformed or has too many digits"
        raise BadInput(message, remedy="correct the number, or put it into quotes") from None


class _Loader(Composer, yaml.CSafeLoader):
    """Counts values while it composes nodes from the events of the C parser."""

    yaml_constructors: ClassVar = {
        tag: yaml.CSafeLoader.yaml_constructors[tag]
        for tag in (f"{_TAG}{name}" for name in _SUPPORTED_TAGS)
    }

    def __init__(self, text: str) -> None:
        yaml.CSafeLoader.__init__(self, text)
        Composer.__init__(self)
        self._values = 0
        self._depth = 0
        self._weights: dict[str | None, int] = {}  # anchor -> number of values

    def compose_document(self) -> Node | None:
        self._values = 0
        self._weights.clear()
        return super().compose_document()

    def compose_node(self, parent: Node | None, index: int) -> Node | None:
        event = self.peek_event()
        assert isinstance(event, yaml.NodeEvent)
        anchor = event.anchor
        if isinstance(event, yaml.AliasEvent):
            if anchor in self.anchors and anchor not in self._weights:
                raise _fault("a YAML value contains an alias of itself", event)
            self._count(self._weights.get(anchor, 1), event)
            return super().compose_node(parent, index)
        before = self._values
        self._count(1, event)
        if self._depth == DOCUMENT_DEPTH_MAX:
            raise _fault(f"more than {DOCUMENT_DEPTH_MAX} nested levels", event)
        self._depth += 1
        node = super().compose_node(parent, index)
        self._depth -= 1
        if anchor is not None:
            self._weights[anchor] = self._values - before
        if isinstance(node, MappingNode):
            _require_distinct_keys(node)
        return node

    def _count(self, values: int, event: yaml.NodeEvent) -> None:
        self._values += values
        if self._values > DOCUMENT_VALUES_MAX:
            mark = event.start_mark
            where = f" (limit reached at line {mark.line + 1})" if mark else ""
            raise _TooLargeError(f"more than {DOCUMENT_VALUES_MAX} values{where}")


def _refuse_tag(_loader: _Loader, node: Node) -> NoReturn:
    raise _fault(f"the tag {node.tag[:_QUOTED_CHARS_MAX]!r} is not supported", node)


_Loader.add_constructor(None, _refuse_tag)
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag not in _NOT_IN_JSON]
    for first, resolvers in yaml.CSafeLoader.yaml_implicit_resolvers.items()
}


def _require_distinct_keys(node: MappingNode) -> None:
    keys = set()
    for key, _ in node.value:
        if isinstance(key, ScalarNode) and key.tag != _MERGE_KEY:
            if key.value in keys:
                raise _fault(f"the key {key.value[:_QUOTED_CHARS_MAX]!r} occurs a second time", key)
            keys.add(key.value)


class _FaultError(yaml.YAMLError):
    """The YAML is valid, but breaks a rule of this module."""


class _TooLargeError(_FaultError):
    """A document exceeds the limit on its values."""


def _fault(problem: str, source: yaml.NodeEvent | Node) -> _FaultError:
    mark = source.start_mark
    return _FaultError(f"{problem} at line {mark.line + 1}" if mark else problem)


def _explained(error: yaml.YAMLError) -> str:
    """The problem and its line, without the YAML text, which may contain secrets."""
    if not isinstance(error, yaml.MarkedYAMLError):
        return str(error).splitlines()[0]
    mark = error.problem_mark
    return f"{error.problem} at line {mark.line + 1}" if mark else str(error.problem)
