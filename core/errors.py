"""The error tree of Orbweaver: every failure that crosses a module boundary.

    OrbweaverError
    ├── Refused                     a rule said no; carries refusals as data
    ├── BadInput                    a text or document from outside that cannot be read
    │   └── MalformedReview         an admission review without an object of the kind asked about
    ├── NotFound                    there is no object of the name somebody gave
    ├── StoreError                  the key-value store
    │   ├── StoreUnavailable        nothing was written; try again          (retryable)
    │   │   └── StoreTimeout        a read did not answer in time           (retryable)
    │   ├── OutcomeUnknown          a write whose answer was lost: read back first (retryable)
    │   ├── StoreFull               its database is full: nothing was written  (retryable)
    │   ├── LostRace                a guard no longer held; the truth was read  (retryable)
    │   ├── StoreRejected           etcd refuses this request as it is
    │   │   └── LeaseGone           it names a lease that has ended: grant another one
    │   └── Compacted               the revision is gone: start again from a newer one (retryable)
    ├── LogError                    the event log
    │   ├── WriterFenced            another process writes under this writer's name
    │   ├── LogGap                  a segment is missing: read again        (retryable)
    │   └── LogCorrupt              bytes that are no segment, or a broken hash chain
    │       └── UnusableValue       a stored value that a worker of the engine cannot use
    ├── RequestError                one request of a caller
    │   ├── Overloaded              the named queue is full; try again      (retryable)
    │   ├── DeadlineExceeded        the caller's time is over               (retryable)
    │   ├── NotReady                the view has not caught up yet          (retryable)
    │   └── CallerGone              its caller hung up before it was started  (retryable)
    ├── AllocationError             an ADD that got no addresses
    │   ├── WrongInput              "wrong input"
    │   ├── NoPoolAvailable         "no IPPool available"
    │   │   └── PoolPending         the automatic pool is not there yet     (retryable)
    │   ├── AddressesUsedOut        "all IP addresses used out"             (retryable)
    │   ├── AddressConflict         "ip conflict"                           (retryable)
    │   ├── GatewayUnreachable      "unreachable"                           (retryable)
    │   ├── DetectionFailed         the link of a NIC could not be looked at
    │   └── RetriesExhausted        "exhaust all retries"                   (retryable)
    ├── DatapathError               the network stack of this node
    │   ├── NamespaceGone           the network namespace is no more
    │   ├── NetlinkRefused          the kernel refuses an operation, with its own words
    │   ├── BpfRefused              the kernel refuses a map, program or link of eBPF
    │   ├── NetlinkLost             answers of the kernel were lost, time and again  (retryable)
    │   └── FirewallBusy            another program held the lock of iptables        (retryable)
    ├── ApiError                    the API server of Kubernetes
    │   ├── ApiUnavailable          it did not answer, or not now           (retryable)
    │   ├── ApiConflict             the object was changed or made meanwhile  (retryable)
    │   ├── ApiExpired              the version is gone: list again         (retryable)
    │   ├── ApiNotFound             there is no such object
    │   │   └── ApiNotServed        there is no such kind, or this is no API server
    │   └── ApiRejected             it refuses this request as it is
    ├── TaskEnded                   an essential task ended and cannot be restarted  (retryable)
    ├── ProviderError               the network provider: nobody knows what it did  (retryable)
    │   └── ProviderRefused         it said no
    └── ExecutionError              the durable execution of a workflow
        ├── ExecutionNotFound       no execution of that id, or none that is open
        ├── AlreadyStarted          the id is taken, by the policy asked for
        ├── ExecutionFailed         closed without a result: failed, cancelled, terminated
        ├── CallRejected            a query or update that the execution refused
        └── SessionLost             the lease of this process has ended     (retryable)

Each error says what happened, to which object, and what to do. Whether a retry can help is the
class attribute ``retryable``, never a guess of the caller. A test compares this drawing with the
classes.
"""

from __future__ import annotations

from typing import ClassVar


class OrbweaverError(Exception):
    """Base of the tree. ``subject`` names the object concerned, ``remedy`` what would help."""

    retryable: ClassVar[bool] = False

    def __init__(self, message: str, *, subject: str = "", remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.subject = subject
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.message} ({self.remedy})" if self.remedy else self.message


class Refused(OrbweaverError):
    """A command broke rules.

    ``refusals`` are ``core.domain.configuration.refusals.Refusal`` values, never empty.
    """

    def __init__(self, refusals: tuple[object, ...]) -> None:
        assert refusals, "a refusal without a reason"
        super().__init__("; ".join(str(refusal) for refusal in refusals))
        self.refusals = refusals


class BadInput(OrbweaverError):
    """A text or document from outside cannot be read; ``subject`` is the field."""


class MalformedReview(BadInput):
    """A review that asks about no object of the kind that is served; ``uid`` is the review's."""

    def __init__(self, message: str, uid: str) -> None:
        super().__init__(message)
        self.uid = uid


class NotFound(OrbweaverError):
    """There is no object of the name somebody gave."""


class StoreError(OrbweaverError):
    """The key-value store failed; ``subject`` is the endpoint or the key."""


class StoreUnavailable(StoreError):
    """The request certainly wrote nothing."""

    retryable = True


class StoreTimeout(StoreUnavailable):
    """A read did not answer within its deadline."""


class StoreFull(StoreError):
    """The request wrote nothing, and none will until there is room: waiting does not help."""

    retryable = True


class OutcomeUnknown(StoreError):
    """A write may or may not have been committed (invariant I9).

    A request that begins with a read can be repeated; the write itself never is. ``is_full``: etcd
    has answered that its database is full, so that nothing is under way any more.
    """

    retryable = True
    is_full = False


class LostRace(StoreError):
    """Somebody else was quicker; what is true now has been read, so the next try knows better."""

    retryable = True


class StoreRejected(StoreError):
    """Too large, too many operations, permission denied, malformed: repeating it cannot help."""


class LeaseGone(StoreRejected):
    """A lease that the request names has ended; nothing was written."""


class Compacted(StoreError):
    """``revision`` is the oldest revision that can still be read."""

    retryable = True

    def __init__(self, revision: int) -> None:
        super().__init__(
            f"the asked revision was compacted; the oldest one left is {revision}",
            subject=str(revision),
            remedy="read the present state and go on from there",
        )
        self.revision = revision


class LogError(OrbweaverError):
    """The event log is not as it must be; ``subject`` is the writer or file."""


class WriterFenced(LogError):
    """Another process has taken over this writer's name and epoch."""


class LogGap(LogError):
    """A writer's sequence numbers are not contiguous in what was read."""

    retryable = True


class LogCorrupt(LogError):
    """Bytes that do not decode, or a hash that does not continue the chain."""


class UnusableValue(LogCorrupt):
    """A worker of the engine cannot use the value of ``key``; its object is left alone."""

    REMEDY: ClassVar[str] = (
        "run a version that knows this value, or delete the key if nothing of it is needed any more"
    )

    def __init__(self, kind: str, key: bytes, why: object, remedy: str = REMEDY) -> None:
        name = key.decode(errors="backslashreplace")
        if isinstance(why, OrbweaverError):
            why = why.message  # this error has a remedy of its own
        super().__init__(f"{kind} {name} cannot be used: {why}", subject=name, remedy=remedy)
        self.kind = kind
        self.key = key


class RequestError(OrbweaverError):
    """One request of a caller failed for a reason of its own."""


class Overloaded(RequestError):
    """``subject`` names the queue that is full."""

    retryable = True


class DeadlineExceeded(RequestError):
    """The caller's time is over; what the request had not committed by then is withdrawn."""

    retryable = True


class NotReady(RequestError):
    """The process does not serve yet."""

    retryable = True


class CallerGone(RequestError):
    """The caller hung up before its request was started; nothing was done."""

    retryable = True


class AllocationError(OrbweaverError):
    """An ADD that got no addresses.

    ``sentinel`` is the short text that users match on (docs/reference/pool-selection.md, "Error
    texts"). ``verdicts``: the ``core.domain.selection.request.CandidateVerdict`` of each pool.
    """

    sentinel: ClassVar[str] = "unknown"

    def __init__(
        self,
        message: str,
        *,
        subject: str = "",
        remedy: str = "",
        verdicts: tuple[object, ...] = (),
    ) -> None:
        super().__init__(message, subject=subject, remedy=remedy)
        self.verdicts = verdicts


class WrongInput(AllocationError):
    """An annotation or request that contradicts itself."""

    sentinel = "wrong input"


class NoPoolAvailable(AllocationError):
    """Nothing selects a pool, or every candidate was filtered out."""

    sentinel = "no IPPool available"


class PoolPending(NoPoolAvailable):
    """The application's automatic pool is not there yet; somebody may be about to make it."""

    retryable = True


class AddressesUsedOut(AllocationError):
    """Every candidate pool is full, established by a read of the truth."""

    sentinel = "all IP addresses used out"
    retryable = True


class AddressConflict(AllocationError):
    """A stranger on the link uses an address of ours."""

    sentinel = "ip conflict"
    retryable = True


class GatewayUnreachable(AllocationError):
    """The pool's gateway does not answer on the NIC's link."""

    sentinel = "unreachable"
    retryable = True


class DetectionFailed(AllocationError):
    """Whether a stranger is there could not be found out, which never means that none is."""


class RetriesExhausted(AllocationError):
    """Lost every race within the bound."""

    sentinel = "exhaust all retries"
    retryable = True


class DatapathError(OrbweaverError):
    """Setting up or reading the network stack failed; ``subject`` is the link or namespace."""


class NamespaceGone(DatapathError):
    """There is no network namespace at the path; for a DEL that is success."""


class NetlinkRefused(DatapathError):
    """The kernel refused one operation; ``number`` is its errno (include/uapi/asm/errno.h)."""

    def __init__(self, message: str, *, number: int, subject: str = "", remedy: str = "") -> None:
        super().__init__(message, subject=subject, remedy=remedy)
        self.number = number


class BpfRefused(DatapathError):
    """The kernel refused an eBPF map, program or link; ``number`` is its errno, 0 for none."""

    def __init__(self, message: str, *, number: int, subject: str = "", remedy: str = "") -> None:
        super().__init__(message, subject=subject, remedy=remedy)
        self.number = number


class NetlinkLost(DatapathError):
    """Answers were dropped or a reading was interrupted more often than the bound allows."""

    retryable = True


class FirewallBusy(DatapathError):
    """Another program held the lock of iptables for longer than we wait."""

    retryable = True


class ApiError(OrbweaverError):
    """The API server failed us; ``subject`` is the path."""


class ApiUnavailable(ApiError):
    """No answer, an answer too late, or "not now" (429, 5xx): a write may have happened."""

    retryable = True


class ApiConflict(ApiError):
    """409: somebody else was quicker."""

    retryable = True


class ApiExpired(ApiError):
    """410: the server remembers nothing as old as that."""

    retryable = True


class ApiNotFound(ApiError):
    """404."""


class ApiNotServed(ApiNotFound):
    """404 that names no object: nothing is known of any object of this kind."""


class ApiRejected(ApiError):
    """Forbidden, invalid, too large: repeating it cannot help."""


class TaskEnded(OrbweaverError):
    """A supervised task ended and used up its restarts; ``subject`` is its name."""

    retryable = True


class ProviderError(OrbweaverError):
    """The network provider failed, or did not answer: what it did is not known."""

    retryable = True


class ProviderRefused(ProviderError):
    """The network provider said no."""

    retryable = False


class ExecutionError(OrbweaverError):
    """Of the workflow engine; ``subject`` is the workflow id."""


class ExecutionNotFound(ExecutionError):
    """There is no such execution, or it is closed and the request needs an open one."""


class AlreadyStarted(ExecutionError):
    """An execution has the id, and the id policies of the request say no; ``run_id`` is its run."""

    def __init__(self, message: str, *, subject: str, remedy: str = "", run_id: str = "") -> None:
        super().__init__(message, subject=subject, remedy=remedy)
        self.run_id = run_id


class ExecutionFailed(ExecutionError):
    """The execution closed without a result; ``status`` says how, ``cause`` is the failure."""

    def __init__(self, message: str, *, subject: str, status: str, cause: object = None) -> None:
        super().__init__(message, subject=subject)
        self.status = status
        self.cause = cause


class CallRejected(ExecutionError):
    """The execution's code, or its validator, refused a query or an update."""


class SessionLost(ExecutionError):
    """Another process may do this one's work by now; nothing more can be written under it."""

    retryable = True
