"""Every key that the product builds has a kind in ``ALL_KINDS``, and every kind has a sample."""

from __future__ import annotations

import contextlib
import inspect
from typing import Any, Final

import pytest

from core.errors import LogCorrupt
from core.eventstore.codec import KeyKind
from core.eventstore.keys import Keys, key_text
from ops.kinds import ALL_KINDS, STATUS_KINDS
from tests.containment.samples import SPOILINGS, VALID_SAMPLES, spoiled
from workflows.engine.store.keys import WorkflowKeys

KEYS: Final = Keys("test")
ARGUMENTS: Final[dict[str, Any]] = {
    **dict.fromkeys(
        ("writer", "namespace", "name", "role", "kind", "application", "review"), "one"
    ),
    "seq": 1,
    "family": 4,
    "value": 1,
    "address": "10.0.0.1",
    "guid": "02:00:00:00:00:00:00:01",
    "node": "one",
    "topic": "pools",
    "workflow_id": "one",
    "run_id": "0" * 32,
    "message": "0" * 32,
    "shard": 3,
    "first": 1,
    "activity_id": 1,
    "session": "one",
}
"""The values of the parameters of the methods that build keys."""

META_NAMES: Final = ("archive", "projector", "reserve")


def _build_keys(builder: object) -> dict[str, bytes]:
    """Return the method's name -> the key that the method builds from ``ARGUMENTS``."""
    built_keys: dict[str, bytes] = {}
    for name, method in inspect.getmembers(builder, inspect.ismethod):
        signature = inspect.signature(method, eval_str=True)
        if name.startswith("_") or signature.return_annotation is not bytes or name == "prefix":
            continue
        if "key" in signature.parameters:
            continue  # this method decodes a key
        arguments = [ARGUMENTS[parameter] for parameter in signature.parameters]
        built_keys[name] = method(*arguments)
    return built_keys


def _kind_of(key: bytes) -> KeyKind[Any] | None:
    ranges = ((kind, *kind.range(KEYS)) for kind in ALL_KINDS)
    return next((kind for kind, start, end in ranges if start <= key < end), None)


@pytest.mark.parametrize("builder", [KEYS, WorkflowKeys(KEYS)], ids=["core", "engine"])
def test_every_key_built_by_the_key_classes_is_of_a_known_kind(builder: object) -> None:
    built_keys = _build_keys(builder)
    built_keys.pop("meta", None)  # the next test checks ``meta``
    assert len(built_keys) > 8
    assert [name for name, key in built_keys.items() if _kind_of(key) is None] == []


@pytest.mark.parametrize("name", META_NAMES)
def test_every_meta_key_is_of_a_known_kind(name: str) -> None:
    assert _kind_of(KEYS.meta(name)) is not None


def test_kinds_and_samples_have_the_same_names() -> None:
    assert {kind.name for kind in ALL_KINDS} == VALID_SAMPLES.keys()
    assert len({kind.name for kind in ALL_KINDS}) == len(ALL_KINDS)
    # ``orbctl status`` reads all kinds except the log, which may be large.
    assert {kind.name for kind in ALL_KINDS} - {kind.name for kind in STATUS_KINDS} == {"segment"}


@pytest.mark.parametrize("kind", ALL_KINDS, ids=lambda kind: kind.name)
def test_a_sample_is_readable_and_the_error_of_a_spoiled_value_names_the_key(
    kind: KeyKind[Any],
) -> None:
    sample = VALID_SAMPLES[kind.name]
    key = sample.key(KEYS)
    kind.decode(KEYS, key, sample.value)
    assert kind.remedy
    assert kind.readers
    for how in SPOILINGS:
        value = spoiled(kind.name, how)
        if value is None:
            continue
        with pytest.raises(LogCorrupt) as caught:
            kind.decode(KEYS, key, value)
        assert caught.value.subject == key.removeprefix(KEYS.root).decode()
        assert caught.value.remedy == kind.remedy


@pytest.mark.parametrize("tail", ["oops", "a/b/c/d/e", "\xff\xfe", "4/zz", ""])
@pytest.mark.parametrize("kind", ALL_KINDS, ids=lambda kind: kind.name)
def test_decoding_a_malformed_key_raises_only_log_corrupt(kind: KeyKind[Any], tail: str) -> None:
    start, _ = kind.range(KEYS)
    key = start.rstrip(b"\0") + tail.encode("latin-1")
    with contextlib.suppress(LogCorrupt):  # any other error fails the test
        kind.decode(KEYS, key, VALID_SAMPLES[kind.name].value)
    assert key_text(KEYS, key)
