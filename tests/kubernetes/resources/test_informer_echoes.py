"""``OwnWrites`` drops watch events of the reporter's own writes; those of other writers remain."""

from __future__ import annotations

from typing import Any, cast

from core.kubernetes.api import Api, Object
from core.kubernetes.informer import Informer, OwnWrites

KEY = ("shop", "web-0")


def object_of_version(version: str) -> Object:
    return {"metadata": {"namespace": "shop", "name": "web-0", "resourceVersion": version}}


def informer(cached: Object | None = None) -> Informer:
    created = Informer(cast("Any", Api), "/api/v1/pods")
    if cached is not None:
        created.objects[KEY] = cached
    return created


def test_a_change_with_the_version_of_our_write_is_skipped() -> None:
    own_writes = OwnWrites(informer(object_of_version("7")))
    own_writes.note(object_of_version("7"))

    assert own_writes.changed_by_others([KEY, ("shop", "web-1")]) == {("shop", "web-1")}


def test_a_change_with_another_version_is_not_skipped() -> None:
    own_writes = OwnWrites(informer(object_of_version("8")))
    own_writes.note(object_of_version("7"))

    assert own_writes.changed_by_others([KEY]) == {KEY}


def test_the_deletion_of_an_object_that_we_wrote_is_not_skipped() -> None:
    own_writes = OwnWrites(informer())
    own_writes.note(object_of_version("7"))

    assert own_writes.changed_by_others([KEY]) == {KEY}


def test_a_write_skips_one_change_only() -> None:
    own_writes = OwnWrites(informer(object_of_version("7")))
    own_writes.note(object_of_version("7"))
    own_writes.changed_by_others([KEY])

    assert own_writes.changed_by_others([KEY]) == {KEY}
