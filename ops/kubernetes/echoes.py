"""Own writes in a watch: an object that we have just written is no news when the watch brings it.

A watch brings every change, also those of the process that watches. The version of the object tells
them apart. A change is dropped only when its version is one that our own write was answered with;
when the watch is quicker than the answer, the object is compared once more, which does no harm.
"""

from __future__ import annotations

from collections.abc import Iterable

from core.kubernetes.api import Object
from core.kubernetes.informer import Informer, ObjectKey, key_of


class Echoes:
    """Those of one informer. Bounded by its objects: the next change of an object forgets it."""

    def __init__(self, informer: Informer) -> None:
        self._informer = informer
        self._written: dict[ObjectKey, str] = {}

    def note(self, written: Object) -> None:
        """Take an answer to a write of ours."""
        self._written[key_of(written)] = _version(written)

    def without(self, keys: Iterable[ObjectKey]) -> set[ObjectKey]:
        """Those of these objects that others have changed."""
        return {key for key in keys if not self._is_own(key)}

    def _is_own(self, key: ObjectKey) -> bool:
        written = self._written.pop(key, "")
        body = self._informer.objects.get(key)
        return bool(written) and body is not None and _version(body) == written


def _version(body: Object) -> str:
    version: str = body["metadata"]["resourceVersion"]
    return version
