"""Attachment records: files on the node, each with the changes that an ADD makes in the kernel.

A record is written before its changes are made; the DEL reverts them and deletes the record. If the
agent is killed during an ADD, the next ADD continues from the record, or the next DEL reverts its
changes. CHECK compares the kernel with the record. A record is written to a temporary file, which
is then renamed: it is complete or absent. It is not synced to disk, because a power loss also
clears the kernel's state; so the directory belongs on a tmpfs (below /run).

A record that cannot be read, or that a newer version wrote, is kept and reported as a contained
fault (one that affects one object only): the version that wrote the record can revert it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

from core.domain.addresses.ip_address import Family
from core.errors import DatapathError, LogCorrupt
from core.eventstore.codec import DECODING_ERRORS, error_text
from core.eventstore.undecodable_values import Faults
from nodeagent.coordinator.attachment_steps import AttachmentPlan, PlanStep
from nodeagent.netlink.requests import Request

RECORDS_MAX: Final = 20_000
"""Records that one GC reads; a node has hundreds."""

CONTAINER_CHARACTERS_MAX: Final = 128
"""Characters of the container id in a file name; container ids of runtimes have 64."""

VERSION: Final = 1

KIND: Final = "attachment record"
REMEDY: Final = (
    "if another agent version wrote it, run that version; otherwise delete the file once its Pod is"
    " deleted; its routes and rules may stay in the kernel until the next reboot"
)
READ_REMEDY: Final = (
    "make the file readable, or delete it once its Pod is deleted; its routes and rules may then"
    " stay in the kernel until the next reboot"
)
LIMIT_REMEDY: Final = (
    "compare the records with the Pods of this node, and check that the runtime calls GC"
)


class AttachmentRecord(msgspec.Struct, frozen=True, array_like=True):
    """The changes that an ADD made for one attachment, or was about to make.

    ``device`` and ``inode`` identify the network namespace; ``link``, ``pod_veth`` and
    ``host_veth`` are the interface indexes of the NIC and of both ends of the veth pair. If all
    these numbers are unchanged, the Pod is the same. ``own_veth``: the coordinator created the veth
    pair for this NIC. ``fingerprint``: the fingerprint of the ADD (``AttachRequest``). ``mac``: the
    NIC's new MAC address, b"" if unchanged. ``rdma``: the RDMA device that moved into the Pod, ""
    for none.
    """

    network: str
    container: str
    interface: str
    netns: str
    device: int
    inode: int
    link: int
    pod_veth: int
    pod_veth_name: str
    host_veth: int
    host_veth_name: str
    own_veth: bool
    families: tuple[Family, ...]
    mode: str
    table: int
    fingerprint: bytes
    mac: bytes
    plan: AttachmentPlan
    version: int = VERSION
    rdma: str = ""


class AttachmentRecords:
    """The attachment records of this node, one file each. Thread-safe."""

    def __init__(self, directory: Path, faults: Faults | None = None) -> None:
        self._directory = directory
        self._faults = Faults() if faults is None else faults
        self._encode = msgspec.msgpack.Encoder().encode
        self._decode = msgspec.msgpack.Decoder(AttachmentRecord).decode

    def put(self, record: AttachmentRecord) -> None:
        """Write a record. Raises DatapathError when the file cannot be written."""
        data = self._encode(msgspec.structs.replace(record, plan=_encodable_plan(record.plan)))
        path = self._path(record.container, record.interface)
        temporary = path.with_name(f".{path.name}")
        try:
            try:
                temporary.write_bytes(data)
            except FileNotFoundError:
                self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
                temporary.write_bytes(data)
            temporary.rename(path)
        except OSError as error:
            raise DatapathError(
                f"cannot write {path}: {error.strerror}",
                subject=str(path),
                remedy="make the directory writable; it needs a few kilobytes for each Pod",
            ) from error

    def get(self, container: str, interface: str) -> AttachmentRecord | None:
        """The record of an attachment; None if there is none, or if it cannot be read.

        A record that cannot be read is reported as a fault.
        """
        record = self._read(self._path(container, interface))
        if record is None or (record.container, record.interface) != (container, interface):
            return None
        return record

    def remove(self, container: str, interface: str) -> None:
        """Delete a record, if there is one."""
        path = self._path(container, interface)
        with suppress(OSError):
            path.unlink(missing_ok=True)
        self._faults.clear(_key(path))

    def all(self) -> Iterator[AttachmentRecord]:
        """Every readable record, up to ``RECORDS_MAX``; other records are reported."""
        self._faults.clear_kinds(KIND)
        paths: list[Path] = []
        with suppress(FileNotFoundError):
            paths = sorted(self._directory.iterdir())
        self._report_limit(len(paths))
        for path in paths[:RECORDS_MAX]:
            record = None if path.name.startswith(".") else self._read(path)
            if record is not None:
                yield record

    def _read(self, path: Path) -> AttachmentRecord | None:
        try:
            record = self._decode(path.read_bytes())
            if record.version != VERSION:
                raise ValueError(f"version {record.version} is unknown")
            if self._path(record.container, record.interface) != path:
                raise ValueError("its content belongs to another attachment")
        except FileNotFoundError:
            return None
        except (OSError, *DECODING_ERRORS) as error:
            why = f"record {path} cannot be read: {error_text(error)}"
            remedy = READ_REMEDY if isinstance(error, OSError) else REMEDY
            self._faults.report(KIND, _key(path), LogCorrupt(why, remedy=remedy))
            return None
        self._faults.clear(_key(path))
        return record

    def _report_limit(self, count: int) -> None:
        if count <= RECORDS_MAX:
            self._faults.keep_within("RECORDS_MAX")
            return
        why = f"only {RECORDS_MAX} of {count} records in {self._directory} are read"
        self._faults.reach_limit("RECORDS_MAX", why, LIMIT_REMEDY)

    def _path(self, container: str, interface: str) -> Path:
        return self._directory / f"{container[:CONTAINER_CHARACTERS_MAX]}@{interface}"


def _key(path: Path) -> str:
    return f"{KIND}/{path.name}"


def _encodable_plan(plan: AttachmentPlan) -> AttachmentPlan:
    pod, host = tuple(map(_encodable_step, plan.pod)), tuple(map(_encodable_step, plan.host))
    return plan._replace(pod=pod, host=host)


def _encodable_step(step: PlanStep) -> PlanStep:
    return PlanStep(_without_subject(step.do), step.undo and _without_subject(step.undo))


def _without_subject(request: Request) -> Request:
    # The subject is only for error texts, and may contain 128-bit integers, which msgpack lacks.
    kind, flags, body, verb, _, tolerated = request
    return Request(kind, flags, body, verb, "", tolerated)
