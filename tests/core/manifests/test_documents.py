"""Reading a text that is malformed or too large raises BadInput."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import BadInput
from core.manifests import documents
from core.manifests.documents import load_yaml
from core.manifests.schemas import Body
from tests.core.manifests.samples import POOL_YAML, RESERVATION_YAML, error_of
from tests.support.manifests import load_documents

NESTED_LISTS = "".join(
    f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 10)}]\n" for level in range(1, 9)
)
NESTED_MERGES = "".join(
    f"m{level}: &m{level} {{<<: [{', '.join([f'*m{level - 1}'] * 10)}]}}\n" for level in range(1, 9)
)

REFUSED_YAML = {
    "an open bracket": ("a: [", "document 1 cannot be read: did not find"),
    "a tab": ("a:\n\t- b", "document 1 cannot be read: found character that cannot start"),
    "a control character": ("a: \x00", "document 1 cannot be read: unacceptable character #x0000"),
    "half a surrogate pair": ("a: \ud800", "half a surrogate pair"),
    "half a surrogate pair, escaped": ('a: "\\ud800"', "document 1 cannot be read"),
    "an unknown alias": ("a: *x", "found undefined alias"),
    "a list with an alias of itself": (
        "a: &x [*x]",
        "a YAML value contains an alias of itself at line 1",
    ),
    "a list with an alias of itself, with an anchor name from an earlier document": (
        "a: &x [b]\n---\na: &x [*x]",
        "document 2 cannot be read: a YAML value contains an alias of itself at line 3",
    ),
    "a mapping with an alias of itself": (
        "a: &x {b: *x}",
        "a YAML value contains an alias of itself at line 1",
    ),
    "a key twice": ("a: 1\nb:\n  c: 1\n  c: 2\n", "the key 'c' occurs a second time at line 4"),
    "a list as key": ("? [a]\n: b", "document 1 cannot be read"),
    "a mapping as key": ("? {a: b}\n: b", "document 1 cannot be read"),
    "a Python object": ("a: !!python/object:os.system x", "the tag 'tag:yaml.org,2002:python"),
    "a set": ("a: !!set {b, c}", "the tag 'tag:yaml.org,2002:set' is not supported"),
    "a binary": ("a: !!binary aGVsbG8=", "the tag 'tag:yaml.org,2002:binary' is not supported"),
    "a timestamp tag": ("a: !!timestamp 2026-01-02", "is not supported at line 1"),
    "an unknown tag": ("a: !mine b", "the tag '!mine' is not supported"),
    "an int tag on a word": ("a: !!int x", "a number is malformed or has too many digits"),
    "a number of 5,000 digits": (
        "a: " + "9" * 5000,
        "a number is malformed or has too many digits",
    ),
    "a fault in the second document": ("a: b\n---\n[", "document 2 cannot be read"),
    "deep lists": ("[" * 100_000, "more than 64 nested levels"),
    "deep mappings": ("{a: " * 100_000, "more than 64 nested levels"),
    "a deep sequence of blocks": ("- " * 10_000, "more than 64 nested levels"),
    "a billion laughs": (
        f"a0: &a0 [ha]\n{NESTED_LISTS}",
        "document 1 is too large: more than 200000 values",
    ),
    "a billion merges": (
        f"m0: &m0 {{ha: ha}}\n{NESTED_MERGES}",
        "document 1 is too large: more than 200000 values",
    ),
}


@pytest.mark.parametrize(("text", "message"), REFUSED_YAML.values(), ids=REFUSED_YAML.keys())
def test_the_error_explains_why_yaml_is_refused(text: str, message: str) -> None:
    with pytest.raises(BadInput) as caught:
        list(load_yaml(text))

    assert message in caught.value.message
    assert "\n" not in caught.value.message


def test_a_text_above_the_size_limit_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(documents, "TEXT_BYTES_MAX", 9)

    assert [document.value for document in load_yaml("a: bcdefg")] == [{"a": "bcdefg"}]
    assert "10 bytes of YAML are more than the limit of 9" in error_of("a: bcdefé").message


def test_too_many_documents_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "DOCUMENTS_MAX", 2)

    assert len(load_documents(f"{POOL_YAML}---\n{RESERVATION_YAML}")) == 2
    assert "more than 2 documents" in error_of(f"{POOL_YAML}---\n---\n{RESERVATION_YAML}").message


def test_the_limit_of_values_applies_to_each_document(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "DOCUMENT_VALUES_MAX", 3)

    assert len(list(load_yaml("&x {a: b}\n---\n&x {a: b}\n---\n{a: b}"))) == 3
    assert error_of("a: b\nc: d").message == (
        "document 1 is too large: more than 3 values (limit reached at line 2)"
    )


YAML_PIECES = st.sampled_from(
    [
        *(":", "-", "- ", ": ", "[", "]", "{", "}", ",", "&a ", "*a", "<<: ", "!!str ", "!"),
        *("|", ">", "---\n", "...\n", "\n", "\n  ", "'", '"', "#", "%YAML 1.1\n", "? ", "\t"),
        *("null", "~", "4", "[::1]", "1e9", "10.7.0.0/16", "ips", "subnet", "labels", "items"),
        *("kind: ", "apiVersion: ", "metadata: ", "name: ", "spec: ", "List", "v1", "Pod"),
        *("SpiderIPPool", "spiderpool.spidernet.io/v2beta1"),
    ]
)
RANDOM_TEXTS = st.lists(YAML_PIECES | st.text(max_size=3), max_size=30).map("".join)


def manifests_or_error(text: str) -> list[Body] | BadInput:
    try:
        return load_documents(text)
    except BadInput as error:
        return error


@given(RANDOM_TEXTS)
def test_random_text_is_read_or_is_bad_input(text: str) -> None:
    result = manifests_or_error(text)

    assert isinstance(result, BadInput) or all(manifest.kind for manifest in result)


@given(st.data())
def test_a_manifest_with_random_text_inside_is_read_or_is_bad_input(data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(POOL_YAML)))
    removed = data.draw(st.integers(0, 10))
    result = manifests_or_error(
        POOL_YAML[:start] + data.draw(RANDOM_TEXTS) + POOL_YAML[start + removed :]
    )

    assert isinstance(result, list) or 0 < len(str(result)) < 1_000, "expected a short error"


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["name", "labels", "subnet", "ips", "x"]), inner, max_size=3
        )
    ),
    max_leaves=10,
)


@given(JSON_VALUES, JSON_VALUES, st.sampled_from(["SpiderIPPool", "SpiderReservedIP", "Pod"]))
def test_any_values_in_the_fields_are_read_or_are_bad_input(
    metadata: object, spec: object, kind: str
) -> None:
    version = "v1" if kind == "Pod" else "spiderpool.spidernet.io/v2beta1"
    value = {"apiVersion": version, "kind": kind, "metadata": metadata, "spec": spec}

    result = manifests_or_error(json.dumps(value))

    assert isinstance(result, BadInput) or [manifest.kind for manifest in result] == [kind]
