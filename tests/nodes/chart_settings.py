"""What the chart tells agents and controllers: their variables and conf.yml, from its golden file.

So the processes of this folder have the settings of an installation, and a setting that the chart
forgets is missing here too. Not taken over is what has another place here: etcd, the API server
(a kubeconfig), and the Secret of the webhooks' certificate.
"""

from __future__ import annotations

from typing import Any, Final

import yaml

from tests.nodes.rights import AGENT, CONTROLLER, RENDERED

ELSEWHERE: Final = ("ORBWEAVER_ETCD_", "ORBWEAVER_TLS_", "ORBWEAVER_KUBERNETES")
_KINDS: Final = {AGENT: "DaemonSet", CONTROLLER: "Deployment"}


def variables(process: str) -> dict[str, str]:
    """The variables of a process whose values the chart knows."""
    template = _rendered(_KINDS[process], process)["spec"]["template"]
    (container,) = template["spec"]["containers"]
    return {
        one["name"]: one["value"]
        for one in container["env"]
        if "value" in one and not one["name"].startswith(ELSEWHERE)
    }


def conf(**changes: object) -> str:
    """The text of conf.yml with other values of some keys."""
    said = yaml.safe_load(_rendered("ConfigMap", "spiderpool-conf")["data"]["conf.yml"])
    return yaml.safe_dump(said | changes)


def _rendered(kind: str, name: str) -> dict[str, Any]:
    (found,) = (
        one
        for one in yaml.safe_load_all(RENDERED.read_text("utf-8"))
        if (one["kind"], one["metadata"]["name"]) == (kind, name)
    )
    return dict(found)
