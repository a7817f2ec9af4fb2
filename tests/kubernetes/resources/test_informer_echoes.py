"""``OwnWrites.changed_by_others`` leaves out objects whose cached version we have written."""

from __future__ import annotations

from typing import Any, cast

from core.kubernetes.api_client import Api, Object
from core.kubernetes.informer import Informer, OwnWrites

KEY = ("shop", "web-0")


def object_of_version(version: str) -> Object:
    return {"metadata": {"namespace": "shop", "name": "web-0", "resourceVersion": version}}


def informer_with(cached: Object | None = None) -> Informer:
    """An informer that is not started, with this object in its cache."""
    informer = Informer(cast("Any", Api), "/api/v1/pods")
    if cached is not None:
        informer.objects[KEY] = cached
    return informer


def test_a_change_with_the_version_of_our_write_is_skipped() -> None:
    own_writes = OwnWrites(informer_with(object_of_version("7")))
    own_writes.note(object_of_version("7"))

    assert own_writes.changed_by_others([KEY, ("shop", "web-1")]) == {("shop", "web-1")}


def test_a_change_with_another_version_is_not_skipped() -> None:
    own_writes = OwnWrites(informer_with(object_of_version("8")))
    own_writes.note(object_of_version("7"))

    assert own_writes.changed_by_others([KEY]) == {KEY}


def test_the_deletion_of_an_object_that_we_wrote_is_not_skipped() -> None:
    own_writes = OwnWrites(informer_with())
    own_writes.note(object_of_version("7"))

    assert own_writes.changed_by_others([KEY]) == {KEY}


def test_only_the_first_change_with_the_version_of_our_write_is_skipped() -> None:
    own_writes = OwnWrites(informer_with(object_of_version("7")))
    own_writes.note(object_of_version("7"))
    own_writes.changed_by_others([KEY])  # the first change

    assert own_writes.changed_by_others([KEY]) == {KEY}
