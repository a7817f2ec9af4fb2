"""Validates pools, subnets and reservations by dry runs of the translator's commands.

A dry run makes the same decision as the translator, without a write. Webhook, translator and
``orbctl apply --dry-run`` therefore agree.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from core.configuration.configurator import Configurator
from core.domain.addresses.ip_address import AddressSyntaxError
from core.domain.configuration.commands import (
    ApplyPool,
    ApplyReservation,
    Command,
    DeletePool,
    DeleteSubnet,
)
from core.domain.configuration.configuration_state import pool_addresses
from core.domain.model import Pool
from core.domain.validation.change_rules import immutable
from core.domain.validation.common_rules import ObjectReference
from core.errors import BadInput, OrbweaverError, Refusal, Refused
from core.kubernetes.api_client import Api, Object
from ops.kubernetes.admission.pending_admissions import Admitter
from ops.kubernetes.admission.reviews import CREATE, DELETE, UPDATE, AdmissionRequest
from ops.kubernetes.translated_kinds import (
    FINALIZER,
    TranslatedKind,
    command_of,
    controlling_subnet,
)

WARNING_S_MAX: Final = 2.0
"""After this time the deletion is allowed without a warning."""

WARNING_CHARS_MAX: Final = 256
"""The API server may cut longer warnings."""

_log: Final = logging.getLogger(__name__)


class AdmissionValidator:
    """The validator of admission requests.

    ``guards_deletion``: refuse the deletion of a pool or subnet in use. ``subnets_enabled``: pools
    can belong to subnets.
    """

    def __init__(
        self,
        api: Api,
        configurator: Configurator,
        admitter: Admitter,
        *,
        guards_deletion: bool,
        subnets_enabled: bool = True,
    ) -> None:
        self._api = api
        self._configurator = configurator
        self._admitter = admitter
        self._guards_deletion = guards_deletion
        self._subnets_enabled = subnets_enabled

    async def validate(self, admission_request: AdmissionRequest) -> tuple[Refusal, ...]:
        """The refusals; () if the request is allowed. Raises StoreError, ApiError."""
        if admission_request.operation == DELETE:
            return await self._deletion(admission_request)
        if admission_request.operation == UPDATE and is_unchanged(
            admission_request.object, admission_request.old
        ):
            return ()
        if "deletionTimestamp" in admission_request.object["metadata"]:
            return _terminating_refusals(admission_request)
        try:
            return await self._change(admission_request)
        except BadInput as error:
            field = f"spec.{error.subject}" if error.subject else ""
            return (
                _subject(admission_request).refuse("Invalid", "unreadable", field, error.message),
            )
        except Refused as error:
            return error.refusals
        except AddressSyntaxError as error:
            message = f"a stored object has an unreadable address: {error}"
            return (
                _subject(admission_request).refuse("Internal", "unreadable", "spec.ips", message),
            )

    async def _change(self, admission_request: AdmissionRequest) -> tuple[Refusal, ...]:
        """Raises Refused, BadInput, AddressSyntaxError."""
        if admission_request.operation == CREATE and await self._name_exists(admission_request):
            return (_already_exists(admission_request),)
        if admission_request.operation == UPDATE:
            _require_same_family(admission_request)
        command = command_of(_object_with_uid(admission_request))
        if isinstance(command, ApplyReservation):
            await self._configurator.dry_run(command)
            return ()
        if isinstance(command, ApplyPool) and self._subnets_enabled:
            await self._require_owner_subnet(admission_request, command.pool)
        await self._admitter.admit(admission_request, command)
        return ()

    async def _name_exists(self, admission_request: AdmissionRequest) -> bool:
        kind = TranslatedKind(f"{admission_request.kind.lower()}s")
        return (
            await self._api.find(kind.path(admission_request.object["metadata"]["name"]))
            is not None
        )

    async def _require_owner_subnet(self, admission_request: AdmissionRequest, pool: Pool) -> None:
        """Raise Refused if the SpiderSubnet that owns the pool is missing or has another CIDR.

        Part of rule 5 of docs/reference/admission.md, "SpiderIPPool".
        """
        owner = controlling_subnet(admission_request.object)
        if owner is None or not pool_addresses(pool):
            return
        subnet = await self._api.find(TranslatedKind.SUBNET.path(owner.name))
        subject = _subject(admission_request)
        if subnet is None or subnet["metadata"]["uid"] != owner.uid:
            message = f"failed to get controller Subnet {owner.name}: there is no such object"
            remedy = "remove the ownerReference, or create the SpiderSubnet first"
            refusal = subject.refuse("Internal", "no-controller", "spec.subnet", message, remedy)
            raise Refused((refusal,))
        if subnet["spec"]["subnet"] != pool.subnet:
            message = f"its addresses are not contained in controller Subnet {owner.name}"
            remedy = f"give the pool the CIDR of that SpiderSubnet, {subnet['spec']['subnet']}"
            refusal = subject.refuse("Forbidden", "outside-owner", "spec.ips", message, remedy)
            raise Refused((refusal,))

    async def warnings(self, admission_request: AdmissionRequest) -> tuple[str, ...]:
        """Warnings that uses delay a deletion; () if it is guarded or etcd cannot be read."""
        if admission_request.operation != DELETE or self._guards_deletion:
            return ()
        try:
            async with asyncio.timeout(WARNING_S_MAX):
                uses = await self._uses(admission_request)
        except (OrbweaverError, TimeoutError) as error:
            _log.warning("no warning about the deletion of %s: %s", admission_request.name, error)
            return ()
        name = f"{admission_request.kind} {admission_request.name!r}"
        begin = f"{name} will be deleted when it is no longer in use"
        return tuple(f"{begin}: {use.message}"[:WARNING_CHARS_MAX] for use in uses)

    async def _deletion(self, admission_request: AdmissionRequest) -> tuple[Refusal, ...]:
        return await self._uses(admission_request) if self._guards_deletion else ()

    async def _uses(self, admission_request: AdmissionRequest) -> tuple[Refusal, ...]:
        """The uses of a pool or subnet, as refusals of its deletion."""
        name = admission_request.name
        match admission_request.kind:
            case "SpiderIPPool":
                refusals = await self._try(DeletePool(name))
            case "SpiderSubnet":
                refusals = await self._try(DeleteSubnet(name))
            case _:
                return ()
        return tuple(refusal for refusal in refusals if refusal.kind == "Forbidden")

    async def _try(self, command: Command) -> tuple[Refusal, ...]:
        try:
            await self._configurator.dry_run(command)
        except Refused as error:
            return error.refusals
        return ()


def is_unchanged(new: Object, old: Object) -> bool:
    """Whether an update changes neither the spec nor a label whose key contains "spider"."""
    labels = [
        {
            key: value
            for key, value in (version["metadata"].get("labels") or {}).items()
            if "spider" in key
        }
        for version in (new, old)
    ]
    return new.get("spec") == old.get("spec") and labels[0] == labels[1]


def _require_same_family(admission_request: AdmissionRequest) -> None:
    new, old = (
        (version.get("spec") or {}).get("ipVersion")
        for version in (admission_request.object, admission_request.old)
    )
    if new is not None and old is not None and new != old:
        raise Refused((immutable(_subject(admission_request), "spec.ipVersion", old),))


def _already_exists(admission_request: AdmissionRequest) -> Refusal:
    """The refusal of a name in use, in the words of the API server."""
    plural = f"{admission_request.kind.lower()}s"
    name = admission_request.object["metadata"]["name"]
    message = f'{plural}.spiderpool.spidernet.io "{name}" already exists'
    return _subject(admission_request).refuse("AlreadyExists", "name-taken", "", message)


def _terminating_refusals(admission_request: AdmissionRequest) -> tuple[Refusal, ...]:
    """Refuse every change of a terminating object, except the removal of Orbweaver's finalizer."""
    if FINALIZER not in (admission_request.object["metadata"].get("finalizers") or []):
        return ()
    message = f"a terminating {admission_request.kind} cannot be changed"
    remedy = "wait until it is deleted, then create it again"
    return (_subject(admission_request).refuse("Forbidden", "terminating", "", message, remedy),)


def _object_with_uid(admission_request: AdmissionRequest) -> Object:
    body = admission_request.object
    return body | {"metadata": {"uid": admission_request.uid} | body["metadata"]}


def _subject(admission_request: AdmissionRequest) -> ObjectReference:
    return ObjectReference(admission_request.kind, admission_request.name)
