"""The rules of pools, subnets and reservations: dry runs of the commands that will follow.

The same ``decide`` on what etcd has now, so that webhook, translator and ``orbctl apply --dry-run``
never differ. Two objects that are created at once may both be let through; of them the translator
refuses one, in its conditions.
"""

from __future__ import annotations

from core.domain.commands import Command, DeletePool, DeleteSubnet
from core.domain.refusals import Refusal
from core.domain.validation.shared import Subject
from core.errors import BadInput, Refused
from core.kubernetes.api import Object
from core.service.configurator import Configurator
from ops.kubernetes.admission.reviews import DELETE, UPDATE, Question
from ops.kubernetes.resources import FINALIZER, command_of


class Judge:
    """Judges questions; ``guards_deletion``: enableValidatingResourcesDeletedWebhook."""

    def __init__(self, configurator: Configurator, *, guards_deletion: bool) -> None:
        self._configurator = configurator
        self._guards_deletion = guards_deletion

    async def judge(self, question: Question) -> tuple[Refusal, ...]:
        """Why not; nothing means yes. Raises StoreError."""
        if question.operation == DELETE:
            return await self._deletion(question)
        if question.operation == UPDATE and says_the_same(question.object, question.old):
            return ()
        if "deletionTimestamp" in question.object["metadata"]:
            return _of_leaving(question)
        try:
            command = command_of(_identified(question))
        except BadInput as error:
            field = f"spec.{error.subject}" if error.subject else ""
            return (_subject(question).refuse("Invalid", "unreadable", field, error.message),)
        except Refused as error:
            return _refusals(error)
        return await self._try(command)

    async def _deletion(self, question: Question) -> tuple[Refusal, ...]:
        """Refused only where a switch says so, and only while something is held."""
        if not self._guards_deletion:
            return ()
        name = question.name
        match question.kind:
            case "SpiderIPPool":
                refusals = await self._try(DeletePool(name))
            case "SpiderSubnet":
                refusals = await self._try(DeleteSubnet(name))
            case _:
                return ()
        return tuple(one for one in refusals if one.kind == "Forbidden")

    async def _try(self, command: Command) -> tuple[Refusal, ...]:
        try:
            await self._configurator.dry_run(command)
        except Refused as error:
            return _refusals(error)
        return ()


def says_the_same(new: Object, old: Object) -> bool:
    """Whether an update is of metadata alone, and not of labels that mean something to us."""
    labels = [
        {
            key: value
            for key, value in (one["metadata"].get("labels") or {}).items()
            if "spider" in key
        }
        for one in (new, old)
    ]
    return new.get("spec") == old.get("spec") and labels[0] == labels[1]


def _of_leaving(question: Question) -> tuple[Refusal, ...]:
    """What is being deleted may lose its finalizer, and nothing else of it may change."""
    if FINALIZER not in (question.object["metadata"].get("finalizers") or []):
        return ()
    message = f"a terminating {question.kind} cannot be changed"
    return (_subject(question).refuse("Forbidden", "terminating", "", message),)


def _identified(question: Question) -> Object:
    """With a UID: what is being created has none in a mutating webhook."""
    one = question.object
    return one | {"metadata": {"uid": question.uid} | one["metadata"]}


def _subject(question: Question) -> Subject:
    return Subject(question.kind, question.name)


def _refusals(error: Refused) -> tuple[Refusal, ...]:
    return tuple(one for one in error.refusals if isinstance(one, Refusal))
