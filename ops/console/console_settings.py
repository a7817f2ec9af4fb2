"""Settings of a controller's console.

A controller without a console imports only this module of the package.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple, get_args

from core.errors import BadInput
from core.process.environment import EnvironmentVariables
from ops.kubernetes.settings import CertificateFiles, KubernetesSettings

CONSOLE_PORT: Final = 5723
PORT_SETTING: Final = "ORBWEAVER_CONSOLE_PORT"
AUTH_SETTING: Final = "ORBWEAVER_CONSOLE_AUTH"
ACTIONS_SETTING: Final = "ORBWEAVER_CONSOLE_WORKFLOW_ACTIONS"
ConsoleAuth = Literal["token-review", "none"]


class ConsoleSettings(NamedTuple):
    """Where the console listens, and who may read it.

    ``address`` "": all addresses. ``port`` 0: a free port. ``files`` None: no TLS. ``kubeconfig``
    None: standalone mode. ``workflow_actions``: users may signal and retry executions if a
    ClusterRole permits them to post to ``/orbweaver/console/workflows``.
    """

    address: str = "127.0.0.1"
    port: int = CONSOLE_PORT
    auth: ConsoleAuth = "token-review"
    files: CertificateFiles | None = None
    kubeconfig: str | None = None
    workflow_actions: bool = False


def console_settings(
    env: EnvironmentVariables, kubernetes: KubernetesSettings | None, listen: str
) -> ConsoleSettings | None:
    """Read the settings; None if no console is served. Raises BadInput.

    In Kubernetes, the console listens on all addresses, with the certificate of the webhooks.
    """
    if not env.boolean("ORBWEAVER_CONSOLE_ENABLED", default=False):
        return None
    text = env.text(AUTH_SETTING, "token-review")
    auth: ConsoleAuth | None = next((name for name in get_args(ConsoleAuth) if name == text), None)
    if auth is None:
        names = " nor ".join(get_args(ConsoleAuth))
        raise BadInput(f"{text[:64]!r} is neither {names}", subject=AUTH_SETTING)
    port = env.port(PORT_SETTING, CONSOLE_PORT)
    actions = env.boolean(ACTIONS_SETTING, default=False)
    if actions and auth == "none":
        raise BadInput(
            "without token review, every client that reaches the console's port could change"
            " workflow executions",
            subject=ACTIONS_SETTING,
            remedy=f"set {AUTH_SETTING}=token-review, or {ACTIONS_SETTING}=false",
        )
    if kubernetes is None:
        return ConsoleSettings(address=listen, port=port, auth=auth, workflow_actions=actions)
    webhook = kubernetes.webhook
    files = webhook.files if webhook is not None else None
    return ConsoleSettings(
        address="",
        port=port,
        auth=auth,
        files=files,
        kubeconfig=kubernetes.kubeconfig,
        workflow_actions=actions,
    )
