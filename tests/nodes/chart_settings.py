"""The chart's settings of agents and controllers: variables and conf.yml, from its golden file.

The processes of this folder run with the settings of an installation, so a setting that is missing
in the chart is missing here too. Replaced are etcd's endpoints, the API server (a kubeconfig), and
the Secret of the webhooks' certificate.
"""

from __future__ import annotations

from typing import Any, Final

import yaml

from tests.nodes.rights import AGENT, CONTROLLER, RENDERED
from tests.support.yaml_reader import read_all_yaml, read_yaml

ELSEWHERE: Final = ("ORBWEAVER_ETCD_", "ORBWEAVER_TLS_", "ORBWEAVER_KUBERNETES")
_KINDS: Final = {AGENT: "DaemonSet", CONTROLLER: "Deployment"}


def variables(process: str) -> dict[str, str]:
    """The variables of a process with values from the chart."""
    template = _rendered(_KINDS[process], process)["spec"]["template"]
    (container,) = template["spec"]["containers"]
    return {
        one["name"]: one["value"]
        for one in container["env"]
        if "value" in one and not one["name"].startswith(ELSEWHERE)
    }


def conf(**changes: object) -> str:
    """The text of conf.yml with other values of some keys."""
    settings = read_yaml(_rendered("ConfigMap", "spiderpool-conf")["data"]["conf.yml"])
    return yaml.safe_dump(settings | changes)


def _rendered(kind: str, name: str) -> dict[str, Any]:
    (match,) = (
        one
        for one in read_all_yaml(RENDERED.read_text("utf-8"))
        if (one["kind"], one["metadata"]["name"]) == (kind, name)
    )
    return dict(match)
