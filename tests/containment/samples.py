"""A key with a readable value for each kind of key in etcd, and four ways to spoil a value.

Objects whose values tests spoil have the name ``vic`` (victim); the writer ``ghost`` does not run.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple

import msgpack
import zstandard

from core.allocation.bindings import BINDING_CODEC, Binding, BindingRequest
from core.allocation.pool_requests import POOL_REQUEST_CODEC, REPORT_CODEC, ReconcileReport
from core.archive.cursor import CURSOR_CODEC, ArchiveCursor
from core.archive.file_format import CHAIN_START, NO_FILE
from core.configuration.admission_records import ADMISSION_CODEC
from core.configuration.refusal_notes import REFUSED_POOL_CODEC, RefusedPool
from core.domain.autopools.applications import Application
from core.domain.autopools.pool_names import ApplicationKey
from core.domain.configuration.admissions import PendingAdmission
from core.domain.events import Cause, PoolRetired, RecordDefined
from core.domain.model import Claim, Endpoint, Nic, Pool, Quarantine, Reservation, Subnet
from core.domain.sriov.model import GuidClaim, NodeGuids, VfGuid
from core.eventstore.codec import (
    CLAIM_CODEC,
    ENDPOINT_CODEC,
    GUID_CLAIM_CODEC,
    HEAD_CODEC,
    NODE_GUIDS_CODEC,
    POOL_CODEC,
    QUARANTINE_CODEC,
    RECORD_CODEC,
    RESERVATION_CODEC,
    SUBNET_CODEC,
    EventDraft,
    KeyKind,
    WriterHead,
    encode_segment,
)
from core.eventstore.election import LEADER_CODEC, Leader
from core.eventstore.keys import Keys, key_text
from core.projections.publisher import CHECKPOINT_CODEC, Checkpoint
from ops.kinds import ALL_KINDS
from workflows.engine.store import records
from workflows.engine.store.keys import WorkflowKeys
from workflows.engine.store.records import encode_history
from workflows.engine.store.session import FENCE_CODEC, SessionFence
from workflows.engine.worker.ownership import OWNER_RECORD, OwnerRecord
from workflows.model.events import HistoryEvent, WorkflowExecutionSignaled

RUN: Final = "0" * 31 + "1"
APPLICATION: Final = ApplicationKey("apps/v1", "Deployment", "shop", "web")
_REQUEST: Final = BindingRequest("shop", "vic", "vic", "uid-vic", "node-v", (), (("10.9.0.9", 7),))


class Sample(NamedTuple):
    """A key and its readable value.

    ``impossible``: a value of the right format whose content contradicts the key or itself; None
    if any content is possible.
    """

    key: Callable[[Keys], bytes]
    value: bytes
    impossible: bytes | None


def engine_key(name: str, *arguments: Any) -> Callable[[Keys], bytes]:
    """Return a builder that calls the method ``name`` of ``WorkflowKeys``."""

    def build_key(keys: Keys) -> bytes:
        key: bytes = getattr(WorkflowKeys(keys), name)(*arguments)
        return key

    return build_key


_POOL = Pool("vic", 4, "10.9.0.0/16", ("10.9.0.1-10.9.0.9",))
_ENDPOINT = Endpoint("shop", "vic", "uid-vic", "node-v", "pod/uid-vic", "Pod", "vic")
_ADMITTED = PendingAdmission("one", "uid", 1, 5.0, _POOL)
_CURSOR = ArchiveCursor(0, NO_FILE, 0, CHAIN_START, 0, {})
_GUID = VfGuid("02:00:00:00:00:00:00:01", "0000:3b:00.0", "10:70:fd:03:00:16:05:48", 0)
_RECORD = RecordDefined("Pod", "shop", "vic")
_SEGMENT = encode_segment(5, [EventDraft("ghost.1.1", Cause("test"), PoolRetired("vic"))])
_HEAD = records.RunHead("vic", RUN, "Vic")
_SIGNAL = HistoryEvent(1, 5, WorkflowExecutionSignaled("go"))

VALID_SAMPLES: Final[dict[str, Sample]] = {
    "pool": Sample(
        lambda keys: keys.pool("vic"),
        POOL_CODEC.encode(_POOL),
        POOL_CODEC.encode(_POOL._replace(ips=("10.9.0.9-10.9.0.1",))),
    ),
    "subnet": Sample(
        lambda keys: keys.subnet("vic"),
        SUBNET_CODEC.encode(Subnet("vic", 4, "10.9.0.0/16", ("10.9.0.1",))),
        SUBNET_CODEC.encode(Subnet("vic", 4, "10.9.0.0/99", ("10.9.0.1",))),
    ),
    "reservation": Sample(
        lambda keys: keys.reservation("vic"),
        RESERVATION_CODEC.encode(Reservation("vic", 4, ("10.9.0.5",))),
        RESERVATION_CODEC.encode(Reservation("vic", 4, ("fd00::5",))),
    ),
    "quarantine": Sample(
        lambda keys: keys.quarantine_of("10.9.0.6"),
        QUARANTINE_CODEC.encode(Quarantine("10.9.0.6", 4, "test")),
        QUARANTINE_CODEC.encode(Quarantine("10.9.0.600", 4, "test")),
    ),
    "record": Sample(
        lambda keys: keys.record("Pod", "shop", "vic"),
        RECORD_CODEC.encode(_RECORD),
        RECORD_CODEC.encode(_RECORD._replace(name="other")),
    ),
    "claim": Sample(
        lambda keys: keys.ip_of("10.9.0.7"),
        CLAIM_CODEC.encode(Claim("vic", "pod/uid-vic", "shop", "vic", "ghost.1.1")),
        None,
    ),
    "endpoint": Sample(
        lambda keys: keys.endpoint("shop", "vic"),
        ENDPOINT_CODEC.encode(_ENDPOINT),
        ENDPOINT_CODEC.encode(_ENDPOINT._replace(nics=(Nic("eth0", "10.9.0.300/16", "vic"),))),
    ),
    "GUID claim": Sample(
        lambda keys: keys.guid(_GUID.guid),
        GUID_CLAIM_CODEC.encode(GuidClaim("node-v", *_GUID[1:])),
        None,
    ),
    "GUIDs of node": Sample(
        lambda keys: keys.node_guids("node-v"),
        NODE_GUIDS_CODEC.encode(NodeGuids("node-v", (_GUID,))),
        NODE_GUIDS_CODEC.encode(NodeGuids("node-v", (_GUID._replace(guid="02:00"),))),
    ),
    "guard": Sample(lambda keys: keys.guard("pools", 6), b"", None),
    "index entry": Sample(
        lambda keys: (
            keys.prefix("index", "pools", "4", "network", "0" * 24 + "0a090000", "016") + b"vic"
        ),
        b"",
        None,
    ),
    "writer head": Sample(
        lambda keys: keys.head("ghost"),
        HEAD_CODEC.encode(WriterHead(0, 1)),
        HEAD_CODEC.encode(WriterHead(-3, 1)),
    ),
    "segment": Sample(lambda keys: keys.log("ghost", 1), _SEGMENT, None),
    "cool-down mark": Sample(lambda keys: keys.cool_down(4, 0x0A090008), b"pod/uid-vic", None),
    "leader": Sample(
        lambda keys: keys.lease("vic"),
        LEADER_CODEC.encode(Leader("one", 5)),
        LEADER_CODEC.encode(Leader("one", -5)),
    ),
    "archive cursor": Sample(
        lambda keys: keys.meta("archive"),
        CURSOR_CODEC.encode(_CURSOR),
        CURSOR_CODEC.encode(_CURSOR._replace(position=-1)),
    ),
    "reserve": Sample(lambda keys: keys.meta("reserve"), b"", None),
    "projector checkpoint": Sample(
        lambda keys: keys.meta("projector"),
        CHECKPOINT_CODEC.encode(Checkpoint(1, 5, "one")),
        CHECKPOINT_CODEC.encode(Checkpoint(-1, 5, "one")),
    ),
    "application view": Sample(
        lambda keys: keys.application_view(str(APPLICATION)),
        REPORT_CODEC.encode(ReconcileReport(1, "workflow", APPLICATION)),
        REPORT_CODEC.encode(ReconcileReport(1, "workflow", APPLICATION._replace(name="other"))),
    ),
    "need": Sample(
        lambda keys: keys.pool_request(str(APPLICATION)),
        POOL_REQUEST_CODEC.encode(Application(APPLICATION, "uid")),
        POOL_REQUEST_CODEC.encode(Application(APPLICATION._replace(name="other"), "uid")),
    ),
    "binding": Sample(
        lambda keys: keys.binding("shop", "vic"),
        BINDING_CODEC.encode(Binding(_REQUEST, "bound")),
        BINDING_CODEC.encode(Binding(_REQUEST._replace(claims=(("10.9.0.900", 7),)), "bound")),
    ),
    "pending admission": Sample(
        lambda keys: keys.admitted("pool", "vic", "one"),
        ADMISSION_CODEC.encode(_ADMITTED),
        ADMISSION_CODEC.encode(_ADMITTED._replace(pool=None)),
    ),
    "refused pool": Sample(
        lambda keys: keys.refused("vic"),
        REFUSED_POOL_CODEC.encode(RefusedPool("vic", "it overlaps")),
        REFUSED_POOL_CODEC.encode(RefusedPool("other", "it overlaps")),
    ),
    "open execution": Sample(
        engine_key("open", "vic"),
        records.HEAD_CODEC.encode(_HEAD),
        records.HEAD_CODEC.encode(_HEAD._replace(workflow_id="other")),
    ),
    "closed execution": Sample(
        engine_key("closed", "vic", RUN),
        records.HEAD_CODEC.encode(_HEAD),
        records.HEAD_CODEC.encode(_HEAD._replace(run_id="other")),
    ),
    "history": Sample(engine_key("event", "vic", RUN, 1), encode_history([_SIGNAL]), None),
    "activity attempt": Sample(
        engine_key("attempt", "vic", RUN, 5), records.ATTEMPT_CODEC.encode(records.Attempt(2)), None
    ),
    "message": Sample(
        engine_key("inbox", "vic", RUN), records.encode_message(records.Signal("go")), None
    ),
    "shard owner": Sample(engine_key("owner", 3), OWNER_RECORD.encode(OwnerRecord("gone")), None),
    "worker": Sample(engine_key("worker", "gone"), OWNER_RECORD.encode(OwnerRecord("gone")), None),
    "signal fence": Sample(engine_key("signal_fence", "vic"), b"", None),
    "workflow type": Sample(engine_key("type", "vic"), b"", None),
    "session fence": Sample(
        engine_key("commit", "gone"), FENCE_CODEC.encode(SessionFence(1, 1)), None
    ),
    "reply": Sample(
        engine_key("reply", RUN), records.REPLY_CODEC.encode(records.Reply("yes")), None
    ),
}

VALID_SAMPLES["reclaim scan state"] = Sample(
    lambda keys: keys.root + b"job/reclaim/0000000000000007/step/000000",
    zstandard.compress(msgpack.packb([])),
    None,
)

SPOILINGS: Final = ("garbage", "newer version", "impossible", "invalid UTF-8")

KINDS_WITHOUT_READ_VALUE: Final = frozenset({"signal fence", "workflow type", "reserve"})
"""Kinds whose value the product does not read."""


def spoiled(kind: str, how: str) -> bytes | None:
    """Return an unreadable value; None if the kind cannot be spoiled in this way."""
    sample = VALID_SAMPLES[kind]
    if kind in KINDS_WITHOUT_READ_VALUE:
        return None
    match how:
        case "garbage":
            return b"\xff\x00garbage\xff"
        case "newer version":
            return None if kind == "cool-down mark" else msgpack.packb([99, {"all": "new"}])
        case "impossible":
            return sample.impossible
        case _:
            return b"\x92\x01\xa3\xff\xfe\xfd"  # version 1 with an invalid string


class Case(NamedTuple):
    """One kind, spoiled in one way."""

    kind: KeyKind[Any]
    how: str
    value: bytes

    def name(self, keys: Keys) -> str:
        """Return the key as error reports show it."""
        return key_text(keys, self.key(keys))

    def key(self, keys: Keys) -> bytes:
        return VALID_SAMPLES[self.kind.name].key(keys)

    @property
    def readable_value(self) -> bytes:
        return VALID_SAMPLES[self.kind.name].value


FAULT_CASES: Final = [
    Case(kind, how, value)
    for kind in ALL_KINDS
    if kind.name in VALID_SAMPLES
    for how in SPOILINGS
    if (value := spoiled(kind.name, how)) is not None
]


def case_id(case: Case) -> str:
    return f"{case.kind.name}, {case.how}"
