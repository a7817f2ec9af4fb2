"""Makes the webhook configurations (docs/reference/admission.md, "Webhook configurations").

An update that changes only finalizers is not reviewed, so that they can be removed while no
controller runs.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Final, NamedTuple

from core.kubernetes.api_client import Object
from core.manifests.kinds.fields import API_VERSION
from ops.kubernetes.admission.pods import POD_WEBHOOK_PATH
from ops.kubernetes.admission.webhook_server import WEBHOOK_KINDS, path_of
from ops.kubernetes.settings import InjectionSettings

CONFIGURATION_NAME: Final = "spiderpool-controller"

TIMEOUT_S: Final = 10
STORED_ADMISSION_KINDS: Final = frozenset(("SpiderIPPool", "SpiderSubnet"))
"""Admissions of these kinds are stored until the log has the object."""

DELETION_KINDS: Final = ("SpiderIPPool", "SpiderSubnet")
WARNING_TIMEOUT_S: Final = 3
"""How long a deletion waits for the warning."""

_PLURALS: Final = {kind: f"{kind.lower()}s" for kind in WEBHOOK_KINDS}
_CHANGED_SPEC: Final = "request.operation != 'UPDATE' || object.spec != oldObject.spec"
_CHANGED_METADATA: Final = (
    " || has(object.metadata.{0}) != has(oldObject.metadata.{0})"
    " || has(object.metadata.{0}) && object.metadata.{0} != oldObject.metadata.{0}"
)
_COMMON: Final[Object] = {
    "admissionReviewVersions": ["v1"],
    "failurePolicy": "Fail",
    "sideEffects": "None",
    "timeoutSeconds": TIMEOUT_S,
}


class WebhookClientConfig(NamedTuple):
    """How the API server reaches the webhooks: a Service, or a URL without the path."""

    ca_pem: bytes
    service: str = ""
    namespace: str = ""
    port: int = 5722
    url: str = ""

    def config(self, path: str) -> Object:
        """The ``clientConfig`` of a webhook."""
        bundle = {"caBundle": base64.b64encode(self.ca_pem).decode()}
        if self.url:
            return {"url": self.url + path, **bundle}
        service = {"name": self.service, "namespace": self.namespace}
        return {"service": {**service, "path": path, "port": self.port}, **bundle}


def configurations(
    client: WebhookClientConfig,
    *,
    guards_deletion: bool,
    injection: InjectionSettings | None = None,
) -> Iterator[Object]:
    """Both webhook configurations.

    Without ``guards_deletion``, the webhook only warns: a deletion succeeds even while no
    controller runs.
    """
    for verb, kind in (
        ("mutate", "MutatingWebhookConfiguration"),
        ("validate", "ValidatingWebhookConfiguration"),
    ):
        webhooks = [
            _webhook(verb, name, client, guards_deletion=guards_deletion) for name in WEBHOOK_KINDS
        ]
        if verb == "validate" and not guards_deletion:
            webhooks += [_warning_of_deletion(name, client) for name in DELETION_KINDS]
        if verb == "mutate" and injection is not None:
            webhooks.append(_pod_webhook(client, injection))
        yield {
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": kind,
            "metadata": {"name": CONFIGURATION_NAME},
            "webhooks": webhooks,
        }


def _webhook(verb: str, kind: str, client: WebhookClientConfig, *, guards_deletion: bool) -> Object:
    operations = ["CREATE", "UPDATE"]
    stores_admission = verb == "validate" and kind in STORED_ADMISSION_KINDS
    if verb == "validate" and guards_deletion and kind in DELETION_KINDS:
        operations.append("DELETE")
    return {
        "name": f"{kind.lower()}.spiderpool.spidernet.io",
        "clientConfig": client.config(path_of(verb, kind)),
        "rules": [_rule(kind, operations)],
        "matchConditions": [{"name": "changes-something", "expression": _change_condition(kind)}],
        **_COMMON,
        "sideEffects": "NoneOnDryRun" if stores_admission else "None",
    }


def _warning_of_deletion(kind: str, client: WebhookClientConfig) -> Object:
    return {
        "name": f"{kind.lower()}-deletion.spiderpool.spidernet.io",
        "clientConfig": client.config(path_of("validate", kind)),
        "rules": [_rule(kind, ["DELETE"])],
        **_COMMON,
        "failurePolicy": "Ignore",
        "timeoutSeconds": WARNING_TIMEOUT_S,
    }


def _rule(kind: str, operations: list[str]) -> Object:
    group, _, version = API_VERSION.partition("/")
    return {
        "apiGroups": [group],
        "apiVersions": [version],
        "operations": operations,
        "resources": [_PLURALS[kind]],
    }


def _change_condition(kind: str) -> str:
    """A CEL expression: spec, labels, or annotations of a SpiderMultusConfig change."""
    parts = ["labels", "annotations"] if kind == "SpiderMultusConfig" else ["labels"]
    return _CHANGED_SPEC + "".join(_CHANGED_METADATA.format(part) for part in parts)


def _pod_webhook(client: WebhookClientConfig, injection: InjectionSettings) -> Object:
    name = "kubernetes.io/metadata.name"
    selections = [("NotIn", injection.exclude), ("In", injection.include)]
    rule = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"]}
    return {
        "name": "pods.spiderpool.spidernet.io",
        "clientConfig": client.config(POD_WEBHOOK_PATH),
        "rules": [{**rule, "resources": ["pods"]}],
        "namespaceSelector": {
            "matchExpressions": [
                {"key": name, "operator": operator, "values": list(values)}
                for operator, values in selections
                if values
            ]
        },
        **_COMMON,
    }
