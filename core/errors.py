"""Orbweaver's exception classes: every failure that crosses a module boundary.

    OrbweaverError
    ├── Refused                     a command violates rules; has a Refusal for each violation
    ├── BadInput                    an input from outside is invalid
    │   ├── MalformedReview         kind, object or namespace of an admission review is wrong
    │   └── PrunedAway              the archive files of the requested time were pruned
    ├── NotFound                    no object has the given name
    ├── StoreError                  the key-value store failed
    │   ├── StoreUnavailable        etcd is not reachable; nothing was written  (retryable)
    │   │   └── StoreTimeout        etcd did not answer a read in time      (retryable)
    │   ├── OutcomeUnknown          the answer to a write was lost: read back first (retryable)
    │   ├── StoreFull               etcd's database is full: nothing was written  (retryable)
    │   ├── LostRace                another writer changed a key of the transaction  (retryable)
    │   ├── StoreRejected           etcd rejects this request; repeating it fails again
    │   │   └── LeaseGone           the lease has ended: grant another one
    │   └── Compacted               the revision was compacted: read from a newer one (retryable)
    │       └── WatchTooFarBehind   a watch holds too many unconfirmed changes  (retryable)
    ├── LogError                    the event log is invalid, or its writer was replaced
    │   ├── WriterFenced            another process writes under this writer's name
    │   ├── LogGap                  a segment is missing: read the log again  (retryable)
    │   └── LogCorrupt              a value cannot be decoded, or the hash chain is broken
    │       └── UnusableValue       a worker of the workflow engine cannot use a stored value
    ├── RequestError                one request of a client was not served
    │   ├── Overloaded              a queue is full; try again              (retryable)
    │   ├── DeadlineExceeded        the request's deadline has passed       (retryable)
    │   ├── NotReady                the process cannot serve requests now   (retryable)
    │   ├── CallerGone              the client disconnected before its request began  (retryable)
    │   ├── Unauthenticated         the request has no token that the API server accepts
    │   └── AccessDenied            the user of the token has no permission for the request
    ├── AllocationError             an ADD got no addresses
    │   ├── WrongInput              "wrong input"
    │   ├── NoPoolAvailable         "no IPPool available"
    │   │   └── PoolPending         the automatic pool does not exist yet   (retryable)
    │   ├── AddressesUsedOut        "all IP addresses used out"             (retryable)
    │   ├── AddressConflict         "ip conflict"                           (retryable)
    │   ├── GatewayUnreachable      "unreachable"                           (retryable)
    │   ├── DetectionFailed         the link of a NIC could not be probed
    │   └── RetriesExhausted        "exhaust all retries"                   (retryable)
    ├── DatapathError               an operation on the network stack of this node failed
    │   ├── NamespaceGone           the network namespace does not exist
    │   ├── NetlinkRefused          the kernel refused an operation; carries its errno
    │   ├── BpfRefused              the kernel refused an eBPF map, program or link
    │   ├── NetlinkLost             the kernel's answers were lost repeatedly  (retryable)
    │   └── FirewallBusy            another program held the lock of iptables  (retryable)
    ├── ApiError                    a request to the Kubernetes API server failed
    │   ├── ApiUnavailable          the API server gave no answer or a temporary error  (retryable)
    │   ├── ApiConflict             another client changed or created the object  (retryable)
    │   ├── ApiExpired              the resourceVersion is too old: list again  (retryable)
    │   ├── ApiNotFound             the API server has no such object
    │   │   └── ApiNotServed        the API server does not serve this kind
    │   └── ApiRejected             the API server forbids the request or finds it invalid
    ├── TaskEnded                   a supervised task has used up its restarts  (retryable)
    ├── ProviderError               the network provider failed; outcome unknown  (retryable)
    │   └── ProviderRefused         the network provider rejected the request
    └── ExecutionError              a request to a workflow execution failed
        ├── ExecutionNotFound       no execution has this id, or only a closed one
        ├── AlreadyStarted          the workflow id is in use, and the id policy forbids reuse
        ├── ExecutionFailed         the execution failed, or was cancelled or terminated
        ├── CallRejected            a query, update, pause or retry was rejected
        └── SessionLost             the lease of this process has ended     (retryable)

A text in quotes is the ``sentinel`` of an AllocationError. A test compares this tree with the
classes.
"""

from __future__ import annotations

from typing import ClassVar, Literal, NamedTuple, Self

RefusalKind = Literal[
    "Invalid", "Forbidden", "NotSupported", "Required", "AlreadyExists", "NotFound", "Internal"
]
"""How a command violates a rule. A webhook's Status has ``FieldValueInvalid`` for ``Invalid``."""


class OrbweaverError(Exception):
    """The base class. ``message``: what happened to which object.

    ``subject``: the object. ``remedy``: what to do. ``retryable``: whether a retry can succeed.
    """

    retryable: ClassVar[bool] = False

    def __init__(self, message: str, *, subject: str = "", remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.subject = subject
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.message} ({self.remedy})" if self.remedy else self.message


class Refusal(NamedTuple):
    """One violation of a rule by a command.

    ``subject``: ``Kind/name``. ``field``: a path such as ``spec.ips[0]``. ``rule``: a stable
    identifier such as ``subnet-overlap``.
    """

    kind: RefusalKind
    rule: str
    subject: str
    field: str
    message: str
    remedy: str = ""

    def __str__(self) -> str:
        where = f"{self.subject}: {self.field}: " if self.field else f"{self.subject}: "
        hint = f" ({self.remedy})" if self.remedy else ""
        return f"{where}{self.message}{hint}"


class Refused(OrbweaverError):
    """A command violates rules; ``refusals`` is not empty."""

    def __init__(self, refusals: tuple[Refusal, ...]) -> None:
        assert refusals, "Refused needs at least one refusal"
        super().__init__("; ".join(str(refusal) for refusal in refusals))
        self.refusals = refusals


class BadInput(OrbweaverError):
    """A text, document or setting from outside is invalid; ``subject`` is the field or setting."""


class MalformedReview(BadInput):
    """An admission review with a wrong kind, object or namespace. ``uid``: the review's UID."""

    def __init__(self, message: str, uid: str) -> None:
        super().__init__(message)
        self.uid = uid


class PrunedAway(BadInput):
    """The requested time is no longer in the archive."""


class NotFound(OrbweaverError):
    """No object has the given name."""


class StoreError(OrbweaverError):
    """The key-value store failed; ``subject`` is the endpoint or the key."""


class StoreUnavailable(StoreError):
    """etcd is not reachable or not ready; the request wrote nothing."""

    retryable = True


class StoreTimeout(StoreUnavailable):
    """etcd did not answer a read within its deadline."""


class StoreFull(StoreError):
    """etcd's database is full: no write succeeds until an administrator frees space.

    The request wrote nothing. A later try can succeed, but the policies in
    ``core.eventstore.retry_policies`` wait only seconds, so they do not retry this error.
    """

    retryable = True


class OutcomeUnknown(StoreError):
    """A write may or may not have been committed; only a read can tell.

    The store never repeats the write. A caller may repeat an operation that first reads.
    ``is_full``: etcd has reported that its database is full.
    """

    retryable = True
    is_full = False


class LostRace(StoreError):
    """Another writer changed a guarded key first; nothing was written.

    The caller must read the current values before the next try.
    """

    retryable = True


class StoreRejected(StoreError):
    """etcd rejects the request (too large, malformed, no permission); a retry fails again."""


class LeaseGone(StoreRejected):
    """The request's lease has ended; nothing was written."""


class Compacted(StoreError):
    """The requested revision was compacted; ``revision``: the oldest revision that can be read."""

    retryable = True

    def __init__(self, revision: int, message: str = "") -> None:
        super().__init__(
            message
            or f"etcd has compacted the requested revision; the oldest revision left is {revision}",
            subject=str(revision),
            remedy="run the command again; agents and controllers read again by themselves",
        )
        self.revision = revision


class WatchTooFarBehind(Compacted):
    """A watch has ended: it held too many unconfirmed changes; read the state again.

    ``revision``: the newest revision that the watch has received.
    """


class LogError(OrbweaverError):
    """The event log is invalid, or its writer was replaced; ``subject``: the writer or file."""


class WriterFenced(LogError):
    """Another process has taken over this writer's name and epoch."""


class LogGap(LogError):
    """The numbers of a writer's segments are not contiguous."""

    retryable = True


class LogCorrupt(LogError):
    """A value cannot be decoded, or a segment does not continue the hash chain."""


class UnusableValue(LogCorrupt):
    """A worker cannot use the value of ``key``. The value is kept."""

    REMEDY: ClassVar[str] = (
        "run a version that can read this value, or delete the key if it is not needed any more"
    )

    def __init__(self, kind: str, key: bytes, why: object, remedy: str = REMEDY) -> None:
        name = key.decode(errors="backslashreplace")
        if isinstance(why, OrbweaverError):
            why = why.message  # str() would add a second remedy
        super().__init__(f"{kind} {name} cannot be used: {why}", subject=name, remedy=remedy)
        self.kind = kind
        self.key = key


class RequestError(OrbweaverError):
    """One request of a client was not served; other requests are not affected."""


class Overloaded(RequestError):
    """A queue is full; ``subject`` names the queue."""

    retryable = True


class DeadlineExceeded(RequestError):
    """The request's deadline has passed; uncommitted changes are undone."""

    retryable = True


class NotReady(RequestError):
    """The process, or a part of it, cannot serve requests now; ``subject`` may name the part."""

    retryable = True


class CallerGone(RequestError):
    """The client disconnected before the request began; nothing was changed."""

    retryable = True


class Unauthenticated(RequestError):
    """The token is missing or rejected."""


class AccessDenied(RequestError):
    """The user of an accepted token has no permission."""


class AllocationError(OrbweaverError):
    """An ADD got no addresses.

    ``sentinel``: the text that users match on (docs/reference/pool-selection.md, "Error texts").
    ``verdicts``: a ``CandidateVerdict`` for each pool. ``source``: the level of pool selection that
    named the pools; "" if no level did.
    """

    sentinel: ClassVar[str] = "unknown"

    def __init__(
        self,
        message: str,
        *,
        subject: str = "",
        remedy: str = "",
        verdicts: tuple[object, ...] = (),
        source: str = "",
    ) -> None:
        super().__init__(message, subject=subject, remedy=remedy)
        self.verdicts = verdicts
        self.source = source

    def with_message(self, message: str, *, remedy: str = "", source: str = "") -> Self:
        """A copy of the error with ``message``; an empty remedy or source changes nothing."""
        return type(self)(
            message,
            subject=self.subject,
            remedy=remedy or self.remedy,
            verdicts=self.verdicts,
            source=source or self.source,
        )


class WrongInput(AllocationError):
    """An annotation or request is malformed or contradicts itself."""

    sentinel = "wrong input"


class NoPoolAvailable(AllocationError):
    """No level of pool selection names a pool, or every candidate was filtered out."""

    sentinel = "no IPPool available"


class PoolPending(NoPoolAvailable):
    """The application's automatic pool does not exist yet; the controller may be creating it."""

    retryable = True


class AddressesUsedOut(AllocationError):
    """A read of etcd has confirmed that every candidate pool is full."""

    sentinel = "all IP addresses used out"
    retryable = True


class AddressConflict(AllocationError):
    """Another host on the link uses the address (RFC 5227, RFC 4862)."""

    sentinel = "ip conflict"
    retryable = True


class GatewayUnreachable(AllocationError):
    """The pool's gateway does not answer on the NIC's link."""

    sentinel = "unreachable"
    retryable = True


class DetectionFailed(AllocationError):
    """The link could not be probed: whether an address conflicts is unknown."""


class RetriesExhausted(AllocationError):
    """Every try within the time limit lost a race to another writer."""

    sentinel = "exhaust all retries"
    retryable = True


class DatapathError(OrbweaverError):
    """Work on the network stack failed; ``subject`` is the link or namespace."""


class NamespaceGone(DatapathError):
    """No network namespace exists at the path; a DEL counts this as success."""


class NetlinkRefused(DatapathError):
    """The kernel refused an operation; ``errno``: as in include/uapi/asm/errno.h."""

    def __init__(self, message: str, *, errno: int, subject: str = "", remedy: str = "") -> None:
        super().__init__(message, subject=subject, remedy=remedy)
        self.errno = errno


class BpfRefused(DatapathError):
    """The kernel refused an eBPF map, program or link; ``errno`` is 0 if it gave none."""

    def __init__(self, message: str, *, errno: int, subject: str = "", remedy: str = "") -> None:
        super().__init__(message, subject=subject, remedy=remedy)
        self.errno = errno


class NetlinkLost(DatapathError):
    """The kernel dropped answers or interrupted a dump too often."""

    retryable = True


class FirewallBusy(DatapathError):
    """Another program held xtables.lock until the wait timed out."""

    retryable = True


class ApiError(OrbweaverError):
    """A request to the API server failed; ``subject`` is the path."""


class ApiUnavailable(ApiError):
    """No answer in time, or status 429 or 5xx: a write may or may not have happened."""

    retryable = True


class ApiConflict(ApiError):
    """Status 409: another client changed or created the object first."""

    retryable = True


class ApiExpired(ApiError):
    """Status 410: the resourceVersion is too old; list again."""

    retryable = True


class ApiNotFound(ApiError):
    """Status 404: the object does not exist."""


class ApiNotServed(ApiNotFound):
    """Status 404 without an object name: the server does not serve this kind or path."""


class ApiRejected(ApiError):
    """The request is forbidden, invalid or too large; a retry fails again."""


class TaskEnded(OrbweaverError):
    """A supervised task ended and has no restarts left; ``subject`` is the task's name.

    The error ends the process or the task's leader term.
    """

    retryable = True


class ProviderError(OrbweaverError):
    """The network provider failed: whether it made the change is unknown."""

    retryable = True


class ProviderRefused(ProviderError):
    """The network provider rejected the request."""

    retryable = False


class ExecutionError(OrbweaverError):
    """A request to a workflow execution failed; ``subject`` is the workflow id."""


class ExecutionNotFound(ExecutionError):
    """No execution has this id, or only a closed one."""


class AlreadyStarted(ExecutionError):
    """The workflow id is in use, and the request's id policy forbids reuse.

    ``run_id``: the open run with this workflow id; "" if the last run is closed.
    """

    def __init__(self, message: str, *, subject: str, remedy: str = "", run_id: str = "") -> None:
        super().__init__(message, subject=subject, remedy=remedy)
        self.run_id = run_id


class ExecutionFailed(ExecutionError):
    """The execution closed without a result; ``cause``: its failure."""

    def __init__(self, message: str, *, subject: str, status: str, cause: object = None) -> None:
        super().__init__(message, subject=subject)
        self.status = status
        self.cause = cause


class CallRejected(ExecutionError):
    """The execution rejected a query or an update, or cannot be paused or retried now."""


class SessionLost(ExecutionError):
    """This worker's lease has ended: writes fail, and other workers may run the executions."""

    retryable = True
