"""The chart's settings of agents and controllers: variables and conf.yml.

The settings come from a golden file: the chart rendered with default values. Agents and controllers
of this folder run with these settings, so tests fail if the chart lacks a necessary setting. Tests
set the endpoints of etcd, the kubeconfig and the webhooks' certificate themselves.
"""

from __future__ import annotations

from typing import Any, Final

import yaml

from tests.nodes.rights import AGENT_ACCOUNT, CONTROLLER_ACCOUNT, DEFAULT_CHART
from tests.support.yaml_reader import read_all_yaml, read_yaml

SET_BY_TESTS: Final = ("ORBWEAVER_ETCD_", "ORBWEAVER_TLS_", "ORBWEAVER_KUBERNETES")
"""Prefixes of the variables that the tests set themselves."""

_WORKLOAD_KINDS: Final = {AGENT_ACCOUNT: "DaemonSet", CONTROLLER_ACCOUNT: "Deployment"}


def variables(process: str) -> dict[str, str]:
    """The environment variables that the chart sets for a process, without ``SET_BY_TESTS``.

    ``process`` is ``AGENT_ACCOUNT`` or ``CONTROLLER_ACCOUNT``.
    """
    template = _rendered(_WORKLOAD_KINDS[process], process)["spec"]["template"]
    (container,) = template["spec"]["containers"]
    return {
        variable["name"]: variable["value"]
        for variable in container["env"]
        if "value" in variable and not variable["name"].startswith(SET_BY_TESTS)
    }


def conf(**changes: object) -> str:
    """The text of the chart's conf.yml; each of ``changes`` replaces a top-level key."""
    settings = read_yaml(_rendered("ConfigMap", "spiderpool-conf")["data"]["conf.yml"])
    return yaml.safe_dump(settings | changes)


def _rendered(kind: str, name: str) -> dict[str, Any]:
    """The object of the rendered chart with this kind and name."""
    (match,) = (
        document
        for document in read_all_yaml(DEFAULT_CHART.read_text("utf-8"))
        if (document["kind"], document["metadata"]["name"]) == (kind, name)
    )
    return dict(match)
