"""``orbctl get`` selects and prints objects with the options of kubectl."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest

from core.errors import BadInput
from ops.cli.exit_codes import Exit
from ops.cli.formats import Format, parse_output
from ops.cli.input_files import READABLE_REMEDY
from ops.cli.jsonpath import find, render
from ops.cli.output import ObjectListing, TableColumn
from ops.cli.selectors import read_selectors
from tests.support.node_harness import NodeHarness, pod
from tests.support.orbctl_harness import OrbctlHarness

TRANSCRIPT_FOLDER = Path(__file__).parent / "transcripts"
VALUE = {
    "items": [
        {"metadata": {"name": "a", "labels": {"app.example.org/tier": "web"}}, "spec": {"n": 9}},
        {"metadata": {"name": "b"}, "spec": {"n": 10, "ips": ["10.6.0.1", "10.6.0.2"]}},
    ]
}


@pytest.fixture
def harness(tmp_path: Path) -> OrbctlHarness:
    harness = OrbctlHarness(tmp_path / "archive")
    for name in ("pools.yaml", "records.yaml"):
        assert harness.orbctl("apply", "-f", str(TRANSCRIPT_FOLDER / name)).code == Exit.OK
    return harness


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (".items[*].metadata.name", ["a", "b"]),
        ("{.items[0].metadata.name}", ["a"]),
        ("$.items[-1].spec.ips[0:1]", ["10.6.0.1"]),
        ("items[1].spec['ips'][*]", ["10.6.0.1", "10.6.0.2"]),
        ("..name", ["a", "b"]),
        (r".items[0].metadata.labels.app\.example\.org/tier", ["web"]),
        ('.items[?(@.metadata.name=="b")].spec.n', [10]),
        (".items[?(@.spec.n != 10)].metadata.name", ["a"]),
        (".items[5].metadata", []),
        (".items[-3].metadata", []),
        (".nothing.at.all", []),
        (".items[0].spec.*", [9]),
        (".", [VALUE]),
    ],
)
def test_a_jsonpath_finds_values(path: str, expected: list[object]) -> None:
    assert find(path, VALUE) == expected


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{.items[*].metadata.name}", "a b"),
        ('{range .items[*]}{.metadata.name}={.spec.n}{"\\n"}{end}', "a=9\nb=10\n"),
        ("names: {.items[0].metadata.name}!", "names: a!"),
        ("{.items[1].spec.ips}", '["10.6.0.1", "10.6.0.2"]'),
        ("{range .items[*]}{range .spec.ips[*]}<{@}>{end}{end}", "<10.6.0.1><10.6.0.2>"),
    ],
)
def test_a_template_is_rendered(template: str, expected: str) -> None:
    assert render(template, VALUE) == expected


def test_a_template_prints_literals_with_escapes_and_other_alphabets() -> None:
    assert render(r"""{"é\t世\u00e9\n"}{'ü'}""", VALUE) == "é\t世é\nü"


@pytest.mark.parametrize("template", [r'{"\x"}', r'{"é\x4"}', r'{"\u12"}', r'{"\é"}', r'{"a\"}'])
def test_a_literal_with_a_bad_escape_is_refused(template: str) -> None:
    with pytest.raises(BadInput, match="is not a JSONPath"):
        render(template, VALUE)


@pytest.mark.parametrize("template", ["{.items[}", "{range .items[*]}{.a}", "{.a", "}{"])
def test_a_malformed_template_is_refused(template: str) -> None:
    with pytest.raises(BadInput):
        render(template, VALUE)


@pytest.mark.parametrize("text", ["xml", "jsonpath", "jsonpath=", "json=x", "custom-columns"])
def test_an_unknown_or_incomplete_output_format_is_refused(text: str) -> None:
    with pytest.raises(BadInput):
        parse_output(text)


def test_an_output_format_may_begin_with_an_equals_sign() -> None:
    assert parse_output("=yaml").format is Format.YAML


def listing(*names: str) -> ObjectListing:
    labels = {"app": "web", "tier": "front"}
    manifests = [
        {"metadata": {"name": name, "labels": labels if name != "c" else {}}, "spec": {"n": number}}
        for number, name in enumerate(names)
    ]
    return ObjectListing((TableColumn("NAME"),), [(name,) for name in names], names, manifests)


@pytest.mark.parametrize(
    ("labels", "fields", "sort_by", "expected"),
    [
        ("app=web", "", "", ["b", "a"]),
        ("app!=web", "", "", ["c"]),
        ("!app", "", "", ["c"]),
        ("app", "", "", ["b", "a"]),
        ("app in (web,db),tier=front", "", "", ["b", "a"]),
        ("app notin (web)", "", "", ["c"]),
        ("", "metadata.name=a", "", ["a"]),
        ("", "metadata.name!=a", "", ["b", "c"]),
        ("", "spec.n==0", "", ["b"]),
        ("", "", ".metadata.name", ["a", "b", "c"]),
        ("", "", "{.spec.n}", ["b", "a", "c"]),
        ("app=db", "", "", []),
    ],
)
def test_objects_are_selected_and_sorted(
    labels: str, fields: str, sort_by: str, expected: list[str]
) -> None:
    selected = read_selectors(labels, fields, sort_by).apply(listing("b", "a", "c"))

    assert list(selected.names) == expected
    assert [row[0] for row in selected.rows] == expected


@pytest.mark.parametrize(
    ("labels", "fields"), [("a b", ""), ("=x", ""), ("a in b", ""), ("", "name"), ("", "=x")]
)
def test_a_malformed_selector_is_refused(labels: str, fields: str) -> None:
    with pytest.raises(BadInput):
        read_selectors(labels, fields, "")


def test_one_command_shows_several_kinds_and_names(harness: OrbctlHarness) -> None:
    kinds = harness.orbctl("get", "pools,reservations", "-o", "name").out.split()
    named = harness.orbctl("get", "pool/six", "reservation/printers", "-o", "name").out.split()
    several = harness.orbctl("get", "pool", "six", "blue", "-o", "name").out.split()

    assert [name.rpartition("/")[2] for name in kinds] == ["blue", "six", "printers"]
    assert [name.rpartition("/")[2] for name in named] == ["six", "printers"]
    assert [name.rpartition("/")[2] for name in several] == ["six", "blue"]


def test_get_prints_existing_objects_although_one_is_missing(harness: OrbctlHarness) -> None:
    result = harness.orbctl("get", "pool", "blue", "nope", "-o", "name")

    assert result.code == Exit.NOT_FOUND
    assert result.out.split() == ["spiderippool.spiderpool.spidernet.io/blue"]
    assert "nope" in result.err


def test_get_prints_a_list_only_for_several_objects(harness: OrbctlHarness) -> None:
    document = json.loads(harness.orbctl("get", "pools,reservations", "-o", "json").out)

    assert document["kind"] == "List"
    kinds = [item["kind"] for item in document["items"]]
    assert kinds == ["SpiderIPPool", "SpiderIPPool", "SpiderReservedIP"]
    single = json.loads(harness.orbctl("get", "pool/blue", "-o", "json").out)
    assert single["kind"] == "SpiderIPPool"


def test_pools_are_printed_in_every_format(harness: OrbctlHarness) -> None:
    columns = harness.orbctl("get", "pools", "-o", "custom-columns=NAME:.metadata.name,N:.nope")
    path = harness.orbctl("get", "pools", "-o", "jsonpath={.items[*].metadata.name}")
    rows = list(csv.reader(io.StringIO(harness.orbctl("get", "pools", "-o", "csv").out)))

    cells = [line.split() for line in columns.out.splitlines()]
    assert cells == [["NAME", "N"], ["blue", "<none>"], ["six", "<none>"]]
    assert path.out == "blue six"
    assert rows[0][0] == "NAME"
    assert [row[0] for row in rows[1:]] == ["blue", "six"]
    assert len(rows[0]) == len(rows[1])


@pytest.mark.parametrize("output", ["table", "wide", "csv"])
def test_an_empty_list_counts_endpoints_elsewhere_without_their_nics(
    harness: OrbctlHarness, output: str
) -> None:
    async def add_two_nics(node: NodeHarness) -> None:
        for interface in ("eth0", "net1"):
            await node.add(pod("web-0"), interface)

    harness.on_node("n1", add_two_nics)

    listed = harness.orbctl("get", "endpoints", "-o", output)

    assert "; 1 in other namespaces" in listed.err


def test_a_field_selector_selects_rows_of_a_table(harness: OrbctlHarness) -> None:
    all_rows = harness.orbctl("get", "pools", "-o", "wide").out.splitlines()
    result = harness.orbctl("get", "pools", "--field-selector", "spec.ipVersion=6", "-o", "wide")

    assert result.out.splitlines()[1].split() == all_rows[2].split()
    assert len(result.out.splitlines()) == 2


def test_selectors_that_match_no_object_are_reported(harness: OrbctlHarness) -> None:
    result = harness.orbctl("get", "pools", "-l", "app=nope")

    assert (result.code, result.out) == (Exit.OK, "")
    assert result.err == "the selectors match none of the pools\n"


def test_a_name_after_several_kinds_is_refused(harness: OrbctlHarness) -> None:
    result = harness.orbctl("get", "pools,subnets", "blue")

    assert result.code == Exit.USAGE
    assert "KIND/NAME" in result.err


def test_a_folder_of_manifests_is_applied(harness: OrbctlHarness, tmp_path: Path) -> None:
    folder = tmp_path / "manifests"
    (folder / "below").mkdir(parents=True)
    text = "apiVersion: spiderpool.spidernet.io/v2beta1\nkind: SpiderReservedIP\n"
    for name, path in (("one", folder / "a.yaml"), ("two", folder / "below/b.yml")):
        path.write_text(f"{text}metadata: {{name: {name}}}\nspec: {{ips: [10.9.0.1]}}\n")
    (folder / "notes.txt").write_text("not a manifest")

    flat = harness.orbctl("apply", "-f", str(folder))
    deep = harness.orbctl("apply", "-R", "-f", str(folder))

    assert flat.out.splitlines() == ["spiderreservedip/one created"]
    assert deep.out.splitlines() == [
        "spiderreservedip/one unchanged",
        "spiderreservedip/two created",
    ]
    assert harness.orbctl("apply", "-f", str(folder / "below" / "..")).code == Exit.OK
    (tmp_path / "empty").mkdir()
    assert harness.orbctl("apply", "-f", str(tmp_path / "empty")).code == Exit.USAGE


@pytest.mark.parametrize("command", ["apply", "simulate", "delete", "nad"])
def test_the_error_names_an_unreadable_manifest_without_an_errno(
    harness: OrbctlHarness, command: str
) -> None:
    result = harness.orbctl(command, "-f", "no-such-file.yaml")

    assert result.code == Exit.USAGE
    first, remedy = result.err.splitlines()
    assert first == "error: cannot read no-such-file.yaml: No such file or directory"
    assert remedy == f"  → {READABLE_REMEDY}"
