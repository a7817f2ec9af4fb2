"""The program finds the socket path that a JSON parser finds.

It searches the netconf's text for the key, and parses the netconf only if necessary. It connects
to the path with ".fast" appended. Error codes: 6 not JSON, 7 invalid field.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.cni.plugin_library import Refused, framed_socket_path

KEY = "ipam_unix_socket_path"
DEFAULT_PATH = b"/var/run/spidernet/spiderpool.sock.fast"
PATH_BYTES_MAX = 102
"""With ".fast" and a NUL byte, the longest path fills the 108 bytes of ``sun_path``."""

paths = st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=30).map(
    "/{}".format
)
scalars = st.none() | st.booleans() | st.integers() | st.text(max_size=10) | st.just(f'"{KEY}"')
values = st.recursive(
    scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=5), inner)
)
layouts = st.sampled_from(
    [
        {},
        {"indent": 4},
        {"indent": "\t"},
        {"separators": (",", ":")},
        {"separators": (" ,\n", " :\r")},
    ]
)


def netconf(path: object) -> bytes:
    return json.dumps({"name": "lan", "ipam": {"type": "spiderpool", KEY: path}}).encode()


@given(path=paths, before=values, after=values, layout=layouts, ascii_only=st.booleans())
def test_the_search_finds_the_path_that_a_json_parser_finds(
    path: str, before: Any, after: Any, layout: dict[str, Any], ascii_only: bool
) -> None:
    document = {"before": before, "ipam": {"type": "spiderpool", KEY: path}, "after": after}
    text = json.dumps(document, ensure_ascii=ascii_only, **layout)

    assert len(path.encode()) <= PATH_BYTES_MAX
    assert framed_socket_path(text.encode()) == path.encode() + b".fast"


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{}",
        b"[]",
        b"null",
        b"no JSON at all",
        netconf(None),
        netconf(""),
        b'{"ipam":{"\\u0061":1}}',
        b'{"ipam":null,"a":"\\n"}',
        b'["\\n"]',
        b'{"prevResult":{"x":"ipam_unix_socket_path"}}',
    ],
)
def test_the_default_socket_is_used_if_the_netconf_names_none(text: bytes) -> None:
    assert framed_socket_path(text) == DEFAULT_PATH


@pytest.mark.parametrize(
    "text",
    [
        rb'{"ipam":{"ipam_unix_socket_path":"\/run\/a.sock"}}',
        rb'{"ipam":{"ipam_unix_socket_path":"\u002frun/a.sock"}}',
        rb'{"ipam":{"ipam\u005funix_socket_path":"/run/a.sock"}}',
        rb'{"note":"\"","ipam":{"ipam_unix_socket_path":"/run/a.sock"}}',
        b'{"ipam_unix_socket_path":"/no","ipam":{"ipam_unix_socket_path":"/run/a.sock"}}',
        b'{"x":["ipam_unix_socket_path"],"ipam":{"ipam_unix_socket_path":"/run/a.sock"}}',
        b'{"ipam":{"ipam_unix_socket_path"\t:\r\n "/run/a.sock"}}',
    ],
)
def test_a_path_is_found_in_every_json_spelling(text: bytes) -> None:
    assert framed_socket_path(text) == b"/run/a.sock.fast"


def test_the_longest_path_of_a_socket_is_accepted() -> None:
    longest = "/" + "x" * (PATH_BYTES_MAX - 1)

    assert framed_socket_path(netconf(longest)) == longest.encode() + b".fast"


@pytest.mark.parametrize(
    "path", ["/" + "x" * PATH_BYTES_MAX, "run/a.sock", "@abstract", "/run/\0", " /run"]
)
def test_the_error_for_an_invalid_socket_path_names_the_field(path: str) -> None:
    with pytest.raises(Refused) as refused:
        framed_socket_path(netconf(path))

    assert refused.value.code == 7
    assert "ipam.ipam_unix_socket_path" in refused.value.message


@pytest.mark.parametrize("path", [7, ["/run/a.sock"], {"path": "/run/a.sock"}, True])
def test_the_error_for_a_path_that_is_no_string_names_the_field(path: object) -> None:
    with pytest.raises(Refused) as refused:
        framed_socket_path(netconf(path))

    assert refused.value.code == 7
    assert "ipam.ipam_unix_socket_path must be a string" in refused.value.message


@pytest.mark.parametrize(
    "text",
    [b'{"a":"\\', b'{"ipam_unix_socket_path":', b'"\\\xff"', b'"\\' + b"[" * 200_000],
)
def test_a_netconf_that_needs_parsing_is_refused_if_it_is_not_json(text: bytes) -> None:
    with pytest.raises(Refused) as refused:
        framed_socket_path(text)

    assert refused.value.code == 6
    assert "not JSON" in refused.value.message
