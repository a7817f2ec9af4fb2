"""Defaults and validation of SpiderCoordinator and SpiderMultusConfig.

The rules are in ``core.manifests.networks``.
"""

from __future__ import annotations

import copy
from typing import Any, Final

import msgspec

from core.domain.addresses.ip_address import (
    AddressSyntaxError,
    parse_address_as_written,
    parse_cidr_as_written,
)
from core.domain.validation.common_rules import ObjectReference
from core.errors import ApiNotFound, BadInput, Refusal
from core.kubernetes.api_client import Api, Object, segment
from core.manifests.kinds.coordinators import CoordinatorSpec
from core.manifests.networks.coordinators import CIDR_TYPES, coordinator_rules
from core.manifests.networks.nad_renderer import attachment_name
from core.manifests.networks.network_defaults import completed, injected_labels
from core.manifests.networks.network_parser import network_of
from core.manifests.networks.network_validation import (
    MULTUS_CONFIG_KIND,
    ReviewedNetwork,
    network_rules,
    owned_attachment_message,
)
from ops.kubernetes.admission.reviews import UPDATE, AdmissionRequest
from ops.kubernetes.admission.validation import is_unchanged
from ops.kubernetes.translated_kinds import FINALIZER

COORDINATOR_KIND: Final = "SpiderCoordinator"
NADS: Final = "/apis/k8s.cni.cncf.io/v1/namespaces/{}/network-attachment-definitions/{}"
_REQUIRED_LISTS: Final = frozenset(("master",))
_DEFAULTS: Final[dict[str, Any]] = {
    "mode": "auto",
    "tunePodRoutes": True,
    "hostRuleTable": 500,
    "podRPFilter": 0,
    "txQueueLen": 0,
    "vethLinkAddress": "",
    "vethMTU": 1500,
}


def defaulted_coordinator(body: Object) -> Object:
    """A copy with defaults, canonical prefixes and the finalizer.

    During a deletion, or without a podCIDRType, only the defaults are added.
    """
    after = copy.deepcopy(body)
    spec = after.setdefault("spec", {})
    if not isinstance(spec, dict):
        return after
    for name, value in _DEFAULTS.items():
        if spec.get(name) is None:
            spec[name] = value
    metadata = after["metadata"]
    if not spec.get("podCIDRType") or "deletionTimestamp" in metadata:
        return after
    try:
        msgspec.convert(spec, CoordinatorSpec)  # the API server checks the schema after mutation
        _write_prefixes(spec)
    except (msgspec.ValidationError, AddressSyntaxError):
        return after  # validation will refuse the object
    finalizers = metadata.get("finalizers") or []
    metadata["finalizers"] = [*dict.fromkeys((*finalizers, FINALIZER))]
    return after


def defaulted_network(body: Object) -> Object:
    """A copy with the defaults of its cniType and the labels for injection."""
    after = copy.deepcopy(body)
    try:
        network = network_of(body)
    except BadInput:
        return after
    after["spec"] = _plain(msgspec.to_builtins(completed(network.spec)))
    labels = injected_labels(network.annotations)
    if labels:
        after["metadata"]["labels"] = (after["metadata"].get("labels") or {}) | labels
    return after


def validate_coordinator(admission_request: AdmissionRequest) -> tuple[Refusal, ...]:
    """The refusals; a change is checked even during the object's deletion."""
    if admission_request.operation == UPDATE and is_unchanged(
        admission_request.object, admission_request.old
    ):
        return ()
    subject = ObjectReference(COORDINATOR_KIND, admission_request.name)
    try:
        spec = msgspec.convert(admission_request.object.get("spec") or {}, CoordinatorSpec)
    except msgspec.ValidationError as error:
        return (subject.refuse("Invalid", "unreadable", "spec", str(error)),)
    if not spec.pod_cidr_type:
        message = f"podCIDRType is required: {', '.join(CIDR_TYPES)}"
        return (subject.refuse("NotSupported", "pod-cidr-type", "spec.podCIDRType", message),)
    return tuple(coordinator_rules(subject, spec))


async def validate_network(admission_request: AdmissionRequest, api: Api) -> tuple[Refusal, ...]:
    """The first refusal, as in Spiderpool. Raises ApiError."""
    if admission_request.operation == UPDATE and _is_same_network(admission_request):
        return ()
    try:
        network = network_of(admission_request.object)
    except BadInput as error:
        subject = ObjectReference(
            MULTUS_CONFIG_KIND, admission_request.name, admission_request.namespace
        )
        return (subject.refuse("Invalid", "unreadable", "spec", error.message),)
    if admission_request.operation == UPDATE:
        network = network._replace(
            old_annotations=admission_request.old["metadata"].get("annotations") or {}
        )
    network = network._replace(spec=completed(network.spec))
    for refusal in network_rules(network):
        return (refusal,)
    return await _foreign_nad(network, api)


def _is_same_network(admission_request: AdmissionRequest) -> bool:
    """Whether spec and annotations are unchanged. Annotations count: they configure injection."""
    versions = admission_request.object, admission_request.old
    new, old = (version["metadata"].get("annotations") or {} for version in versions)
    return new == old and is_unchanged(admission_request.object, admission_request.old)


async def _foreign_nad(network: ReviewedNetwork, api: Api) -> tuple[Refusal, ...]:
    """Refuse the network if another one owns its NetworkAttachmentDefinition."""
    name = attachment_name(network.name, network.annotations)
    try:
        nad = await api.get(NADS.format(segment(network.namespace), segment(name)))
    except ApiNotFound:
        return ()
    for owner in nad["metadata"].get("ownerReferences") or []:
        if owner["kind"] == MULTUS_CONFIG_KIND and owner["name"] != network.name:
            subject = ObjectReference(MULTUS_CONFIG_KIND, network.name, network.namespace)
            message = owned_attachment_message(network.namespace, name, owner["name"])
            return (subject.refuse("Invalid", "nad-owned", "metadata.annotations", message),)
    return ()


def _write_prefixes(spec: Object) -> None:
    """Write addresses as prefixes; route destinations keep host bits."""
    if spec.get("hijackCIDR"):
        spec["hijackCIDR"] = [text if "/" in text else _prefix(text) for text in spec["hijackCIDR"]]
    for route in spec.get("policyRoutes") or []:
        text = route["dst"] if "/" in route["dst"] else _prefix(route["dst"])
        route["dst"] = parse_cidr_as_written(text).text_with_host_bits()


def _prefix(text: str) -> str:
    return f"{text}/{32 if parse_address_as_written(text).family == 4 else 128}"


def _plain(value: Any) -> Any:  # noqa: ANN401  # JSON
    """JSON without nulls and empty lists; the rules check required lists, which stay."""
    if isinstance(value, dict):
        return {
            key: _plain(item)
            for key, item in value.items()
            if item is not None and (item != [] or key in _REQUIRED_LISTS)
        }
    return [_plain(item) for item in value] if isinstance(value, list) else value
