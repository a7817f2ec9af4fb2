"""A second controller, in a Pod that runs the Python environment of this machine.

The Pod uses the pause image and mounts the machine's directories at the same paths, because a build
of the project's image needs a registry.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from core.process.environment import KUBECONFIG_VARIABLE
from ops.cli import remote
from tests.nodes.kubernetes_cluster import KubernetesCluster
from tests.nodes.rights import CONTROLLER_ACCOUNT
from tests.nodes.workloads import SHOP_NAMESPACE, Object, manifest
from tests.runtime.pause_image import IMAGE_NAME

APP_LABEL: Final = "another-controller"
ROOT: Final = Path(__file__).parents[2]
SYSTEM_DIRECTORIES: Final = ("/usr", "/bin", "/lib", "/lib64")
HEALTH_PORT: Final = 5720


def controller_pod(cluster: KubernetesCluster, node: str) -> Object:
    """A Pod with the labels by which ``kubectl orb`` finds controllers."""
    kubeconfig = cluster.server.kubeconfig_of(CONTROLLER_ACCOUNT)
    directories = list(_host_directories(kubeconfig.parent))
    variables = {
        "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
        "ORBWEAVER_ETCD_ENDPOINTS": cluster.laboratory.etcd.endpoint,
        "ORBWEAVER_ARCHIVE_DIR": "/tmp/archive",
        "SPIDERPOOL_HEALTH_PORT": str(HEALTH_PORT),
        "SPIDERPOOL_POD_NAME": APP_LABEL,
        KUBECONFIG_VARIABLE: str(kubeconfig),
    }
    container = {
        "name": "controller",
        "image": IMAGE_NAME,
        "imagePullPolicy": "Never",
        "command": ["orbweaver-controller", "--config-path", "/nonexistent"],
        "env": [{"name": name, "value": value} for name, value in variables.items()],
        "readinessProbe": {
            "httpGet": {"host": "127.0.0.1", "port": HEALTH_PORT, "path": "/readyz"},
            "periodSeconds": 1,
        },
        "volumeMounts": [
            {"name": "scratch", "mountPath": "/tmp"},
            *(
                {"name": f"directory-{number}", "mountPath": str(directory), "readOnly": True}
                for number, directory in enumerate(directories)
            ),
        ],
    }
    controller = manifest(
        "v1", "Pod", APP_LABEL, SHOP_NAMESPACE, spec=_spec(container, node, directories)
    )
    controller["metadata"]["labels"] = {
        "app": APP_LABEL,
        **dict(label.split("=") for label in f"{remote.SELECTOR}{remote.CONTROLLER}".split(",")),
    }
    return controller


def _spec(container: dict[str, Any], node: str, directories: list[Path]) -> dict[str, Any]:
    return {
        "automountServiceAccountToken": False,
        "dnsPolicy": "Default",
        "hostNetwork": True,
        "nodeSelector": {"kubernetes.io/hostname": node},
        "terminationGracePeriodSeconds": 5,
        "containers": [container],
        "volumes": [
            {"name": "scratch", "emptyDir": {}},
            *(
                {"name": f"directory-{number}", "hostPath": {"path": str(directory)}}
                for number, directory in enumerate(directories)
            ),
        ],
    }


def _host_directories(kubeconfig: Path) -> Iterator[Path]:
    """Existing directories that a controller needs, except those inside another of them."""
    required = [
        *map(Path, SYSTEM_DIRECTORIES),
        Path(sys.base_prefix),
        Path(sys.prefix),
        ROOT,
        kubeconfig,
    ]
    for directory in dict.fromkeys(required):
        inside = any(other in directory.parents for other in required)
        if directory.exists() and not inside:
            yield directory
