"""Variables and conf.yml of agents and controllers, from the chart with default values.

The agents and controllers of this folder's tests run with these settings, so a test fails if the
chart lacks a setting.
"""

from __future__ import annotations

from typing import Any, Final

import yaml

from tests.nodes.rights import AGENT_ACCOUNT, CONTROLLER_ACCOUNT, DEFAULT_CHART
from tests.support.yaml_reader import read_all_yaml, read_yaml

SET_BY_TESTS: Final = ("ORBWEAVER_ETCD_", "ORBWEAVER_TLS_", "ORBWEAVER_KUBERNETES")
"""Prefixes of the variables that tests set."""

_WORKLOAD_KINDS: Final = {AGENT_ACCOUNT: "DaemonSet", CONTROLLER_ACCOUNT: "Deployment"}


def variables(account: str) -> dict[str, str]:
    """The variables of the account's workload in the chart, without ``SET_BY_TESTS``."""
    template = _rendered(_WORKLOAD_KINDS[account], account)["spec"]["template"]
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
    (match,) = (
        document
        for document in read_all_yaml(DEFAULT_CHART.read_text("utf-8"))
        if (document["kind"], document["metadata"]["name"]) == (kind, name)
    )
    return dict(match)
