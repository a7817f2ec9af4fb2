"""Validates pools, subnets and reservations by dry runs of the translator's commands.

A dry run decides on the state in etcd with the same ``decide``, so that webhook, translator and
``orbctl apply --dry-run`` agree. It includes objects that were admitted but not translated yet
(``admitter``). Two facts come from the API server: whether the name is in use, and whether the
controlling subnet of a pool exists.
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
from core.domain.validation.changes import immutable
from core.domain.validation.shared import ObjectReference
from core.errors import BadInput, OrbweaverError, Refusal, Refused
from core.kubernetes.api import Api, Object
from ops.kubernetes.admission.admitter import Admitter
from ops.kubernetes.admission.reviews import CREATE, DELETE, UPDATE, AdmissionRequest
from ops.kubernetes.resources import FINALIZER, TranslatedKind, command_of, controlling_subnet

WARNING_S_MAX: Final = 2.0
"""How long a deletion waits for the state of etcd, which only a warning needs."""

WARNING_CHARS_MAX: Final = 256
"""The API server may cut longer ones."""

_log: Final = logging.getLogger(__name__)


class AdmissionValidator:
    """Validates requests.

    ``guards_deletion``: enableValidatingResourcesDeletedWebhook of the chart's values.
    ``subnets_enabled``: enableSpiderSubnet: pools belong to subnets.
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

    async def validate(self, question: AdmissionRequest) -> tuple[Refusal, ...]:
        """The refusals; none if the request is allowed. Raises StoreError, ApiError."""
        if question.operation == DELETE:
            return await self._deletion(question)
        if question.operation == UPDATE and is_unchanged(question.object, question.old):
            return ()
        if "deletionTimestamp" in question.object["metadata"]:
            return _terminating_refusals(question)
        try:
            return await self._change(question)
        except BadInput as error:
            field = f"spec.{error.subject}" if error.subject else ""
            return (_subject(question).refuse("Invalid", "unreadable", field, error.message),)
        except Refused as error:
            return error.refusals
        except AddressSyntaxError as error:
            message = f"a stored object has an unreadable address: {error}"
            return (_subject(question).refuse("Internal", "unreadable", "spec.ips", message),)

    async def _change(self, question: AdmissionRequest) -> tuple[Refusal, ...]:
        """Validate a creation or an update. Raises Refused, BadInput, AddressSyntaxError."""
        if question.operation == CREATE and await self._is_taken(question):
            return (_already_exists(question),)
        if question.operation == UPDATE:
            _require_same_family(question)
        command = command_of(_identified(question))
        if isinstance(command, ApplyReservation):
            await self._configurator.dry_run(command)
            return ()
        if isinstance(command, ApplyPool) and self._subnets_enabled:
            await self._require_controller(question, command.pool)
        await self._admitter.admit(question, command)
        return ()

    async def _is_taken(self, question: AdmissionRequest) -> bool:
        """Whether the API server has an object with this name."""
        kind = TranslatedKind(f"{question.kind.lower()}s")
        return await self._api.find(kind.path(question.object["metadata"]["name"])) is not None

    async def _require_controller(self, question: AdmissionRequest, pool: Pool) -> None:
        """Check that the SpiderSubnet that controls the pool exists and has its CIDR.

        Otherwise Kubernetes would garbage-collect the pool (docs/reference/admission.md,
        "SpiderIPPool", rule 5). Raises Refused.
        """
        owner = controlling_subnet(question.object)
        if owner is None or not pool_addresses(pool):
            return
        subnet = await self._api.find(TranslatedKind.SUBNET.path(owner.name))
        subject = _subject(question)
        if subnet is None or subnet["metadata"]["uid"] != owner.uid:
            message = f"failed to get controller Subnet {owner.name}: there is no such object"
            remedy = "remove the ownerReference, or create the SpiderSubnet first"
            refusal = subject.refuse("Internal", "no-controller", "spec.subnet", message, remedy)
            raise Refused((refusal,))
        if subnet["spec"]["subnet"] != pool.subnet:
            message = f"its addresses are not contained in controller Subnet {owner.name}"
            remedy = f"the CIDR of that SpiderSubnet is {subnet['spec']['subnet']}"
            refusal = subject.refuse("Forbidden", "outside-owner", "spec.ips", message, remedy)
            raise Refused((refusal,))

    async def warnings(self, question: AdmissionRequest) -> tuple[str, ...]:
        """Why an allowed deletion takes effect later than its user may expect.

        Without an answer of etcd there is no warning: the deletion itself does not need one.
        """
        if question.operation != DELETE or self._guards_deletion:
            return ()
        try:
            async with asyncio.timeout(WARNING_S_MAX):
                uses = await self._uses(question)
        except (OrbweaverError, TimeoutError) as error:
            _log.warning("no warning about the deletion of %s: %s", question.name, error)
            return ()
        begin = f"{question.kind} {question.name!r} is in use and will be deleted when it is not"
        return tuple(f"{begin}: {use.message}"[:WARNING_CHARS_MAX] for use in uses)

    async def _deletion(self, question: AdmissionRequest) -> tuple[Refusal, ...]:
        """Refuse the deletion if the switch is on and the object is in use."""
        return await self._uses(question) if self._guards_deletion else ()

    async def _uses(self, question: AdmissionRequest) -> tuple[Refusal, ...]:
        """What the pool or subnet of a deletion is used for. Raises StoreError."""
        name = question.name
        match question.kind:
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
    """Whether an update changes only metadata, and no label that contains "spider"."""
    labels = [
        {
            key: value
            for key, value in (version["metadata"].get("labels") or {}).items()
            if "spider" in key
        }
        for version in (new, old)
    ]
    return new.get("spec") == old.get("spec") and labels[0] == labels[1]


def _require_same_family(question: AdmissionRequest) -> None:
    """Check that ipVersion did not change, before its value is checked. Raises Refused."""
    new, old = (
        (version.get("spec") or {}).get("ipVersion") for version in (question.object, question.old)
    )
    if new is not None and old is not None and new != old:
        raise Refused((immutable(_subject(question), "spec.ipVersion", old),))


def _already_exists(question: AdmissionRequest) -> Refusal:
    """A refusal with the text of the API server."""
    plural = f"{question.kind.lower()}s"
    name = question.object["metadata"]["name"]
    message = f'{plural}.spiderpool.spidernet.io "{name}" already exists'
    return _subject(question).refuse("AlreadyExists", "name-taken", "", message)


def _terminating_refusals(question: AdmissionRequest) -> tuple[Refusal, ...]:
    """Refuse every change of a terminating object but the removal of our finalizer."""
    if FINALIZER not in (question.object["metadata"].get("finalizers") or []):
        return ()
    message = f"a terminating {question.kind} cannot be changed"
    return (_subject(question).refuse("Forbidden", "terminating", "", message),)


def _identified(question: AdmissionRequest) -> Object:
    """The object with a UID; an object without one gets that of the review."""
    body = question.object
    return body | {"metadata": {"uid": question.uid} | body["metadata"]}


def _subject(question: AdmissionRequest) -> ObjectReference:
    return ObjectReference(question.kind, question.name)
