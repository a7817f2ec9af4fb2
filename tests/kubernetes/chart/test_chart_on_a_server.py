"""A real API server accepts every object that the chart renders, with strict validation.

``ORBWEAVER_FOREIGN_DEFINITIONS`` may name a directory with the published CRDs of ``FOREIGN_KINDS``.
Without it, the API server accepts any fields in objects of these kinds.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from core.manifests.manifest_writer import dump_yaml
from tests.chart.rendering import (
    CHART_NAMESPACE,
    VALUES_PROFILES,
    Object,
    render_objects,
    values_of,
)
from tests.kubernetes.identities import namespace_of
from tests.support.kubernetes import ApiServer
from tests.support.parts import FOREIGN_DEFINITIONS, HELM, needs, note_substitute

pytest.importorskip("helm_python", reason=needs(HELM))

FOREIGN_KINDS = (
    ("monitoring.coreos.com", "ServiceMonitor", "servicemonitors"),
    ("monitoring.coreos.com", "PrometheusRule", "prometheusrules"),
    ("cert-manager.io", "Certificate", "certificates"),
    ("cert-manager.io", "Issuer", "issuers"),
    ("grafana.integreatly.org", "GrafanaDashboard", "grafanadashboards"),
)
"""Kinds of other projects: group, kind and plural."""

DEFINITIONS_DIRECTORY = os.environ.get("ORBWEAVER_FOREIGN_DEFINITIONS", "")

VERSIONS = {"grafana.integreatly.org": "v1beta1"}
"""The version of each group that has no v1."""


@pytest.fixture(scope="module")
def module_server_with_foreign_kinds(server_with_crds: ApiServer) -> Iterator[ApiServer]:
    server = server_with_crds
    path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    for file in sorted(Path(DEFINITIONS_DIRECTORY).glob("*.yaml")) if DEFINITIONS_DIRECTORY else ():
        server.kubectl("apply", "--server-side", "-f", str(file))
    for group, kind, plural in FOREIGN_KINDS:
        if not DEFINITIONS_DIRECTORY:
            server.request("POST", path, permissive_crd(group, kind, plural))
        server.wait_served(f"/apis/{group}/{VERSIONS.get(group, 'v1')}/{plural}")
    yield server
    for group, _, plural in FOREIGN_KINDS:
        server.request("DELETE", f"{path}/{plural}.{group}")


@pytest.fixture
def server_with_foreign_kinds(
    module_server_with_foreign_kinds: ApiServer, request: pytest.FixtureRequest
) -> ApiServer:
    """The module's server. The report of a test says if definitions without a schema were used."""
    if not DEFINITIONS_DIRECTORY:
        note_substitute(request.node, FOREIGN_DEFINITIONS, "definitions without a schema")
    return module_server_with_foreign_kinds


@pytest.mark.parametrize("profile", VALUES_PROFILES)
def test_the_api_server_accepts_every_object_of_a_values_profile(
    profile: str, server_with_foreign_kinds: ApiServer
) -> None:
    server = server_with_foreign_kinds
    assert_accepted(server, render_objects(values_of(profile)))


def test_the_api_server_accepts_the_objects_of_values_that_are_off_by_default(
    server_with_foreign_kinds: ApiServer,
) -> None:
    """The values are those of Spiderpool's chart that add objects or fields."""
    common = {
        "extraArgs": ["--config-path=/tmp/conf.yml"],
        "extraVolumes": [{"name": "extra", "emptyDir": {}}],
        "extraVolumeMounts": [{"name": "extra", "mountPath": "/extra"}],
        "securityContext": {"privileged": True},
        "service": {"type": "NodePort", "annotations": {"a": "b"}},
        "prometheus": {"enabled": True, "prometheusRule": {"install": True}},
    }
    values = {
        "spiderpoolAgent": common,
        "spiderpoolController": common | {"tls": {"method": "certmanager"}},
        "multus": {"multusCNI": {"install": True, "uninstall": True}},
        "plugins": {"installCNI": True},
        "grafanaDashboard": {"install": True, "operator": True},
    }

    assert_accepted(server_with_foreign_kinds, render_objects(values))


def assert_accepted(server: ApiServer, rendered: list[Object]) -> None:
    for name in {CHART_NAMESPACE, *map(namespace_of, rendered)} - {""}:
        space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
        server.request("POST", "/api/v1/namespaces", space)

    output = server.kubectl(
        *("apply", "--server-side", "--force-conflicts", "--dry-run=server"),
        *("--validate=strict", "-f", "-"),
        stdin=dump_yaml(rendered),
    )

    assert output.count("(server dry run)") == len(rendered)


def test_the_api_server_accepts_the_default_objects_of_a_new_cluster(
    server_with_foreign_kinds: ApiServer,
) -> None:
    from ops.kubernetes.default_objects import read_objects

    (defaults,) = (
        item
        for item in render_objects(values_of("production"))
        if (item["kind"], item["metadata"]["name"]) == ("ConfigMap", "orbweaver-defaults")
    )
    default_objects = read_objects(defaults["data"]["objects.yaml"], "objects.yaml")

    output = server_with_foreign_kinds.kubectl(
        *("create", "--dry-run=server", "--validate=strict", "-f", "-"),
        stdin=dump_yaml(default_objects),
    )

    assert [item["kind"] for item in default_objects] == [
        "SpiderCoordinator",
        *("SpiderSubnet", "SpiderIPPool") * 2,
        "SpiderMultusConfig",
    ]
    assert output.count("(server dry run)") == len(default_objects)


def permissive_crd(group: str, kind: str, plural: str) -> dict[str, object]:
    """A CRD that allows any fields."""
    anything = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    version = {
        "name": VERSIONS.get(group, "v1"),
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": anything},
    }
    names = {"kind": kind, "plural": plural, "singular": kind.lower(), "listKind": f"{kind}List"}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{group}"},
        "spec": {"group": group, "names": names, "scope": "Namespaced", "versions": [version]},
    }
