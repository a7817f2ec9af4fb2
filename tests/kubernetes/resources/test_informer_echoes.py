"""The reporter does not compare again what it has just written; what others write it does."""

from __future__ import annotations

from typing import Any, cast

from core.kubernetes.api import Api, Object
from core.kubernetes.informer import Echoes, Informer

KEY = ("shop", "web-0")


def one(version: str) -> Object:
    return {"metadata": {"namespace": "shop", "name": "web-0", "resourceVersion": version}}


def informer(there: Object | None = None) -> Informer:
    found = Informer(cast("Any", Api), "/api/v1/pods")
    if there is not None:
        found.objects[KEY] = there
    return found


def test_a_version_that_we_wrote_is_no_news() -> None:
    echoes = Echoes(informer(one("7")))
    echoes.note(one("7"))

    assert echoes.without([KEY, ("shop", "web-1")]) == {("shop", "web-1")}


def test_a_version_that_somebody_else_wrote_is_news() -> None:
    echoes = Echoes(informer(one("8")))
    echoes.note(one("7"))

    assert echoes.without([KEY]) == {KEY}


def test_an_object_that_we_wrote_and_that_is_gone_is_news() -> None:
    echoes = Echoes(informer())
    echoes.note(one("7"))

    assert echoes.without([KEY]) == {KEY}


def test_a_write_is_known_for_one_change_only() -> None:
    echoes = Echoes(informer(one("7")))
    echoes.note(one("7"))
    echoes.without([KEY])

    assert echoes.without([KEY]) == {KEY}
