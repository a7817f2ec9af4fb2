"""Attachment records: files on the node, each with the changes that an ADD makes in the kernel.

An ADD writes its record before it makes the changes. After a crash, the next ADD continues from the
record, or the next DEL reverts the changes. Keep the directory on a tmpfs: a reboot clears the
kernel's state and must clear the records too. An unreadable record is kept and reported as a fault,
because another agent version may have written it.
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

CONTAINER_CHARACTERS_MAX: Final = 128

VERSION: Final = 1

KIND: Final = "attachment record"
REMEDY: Final = (
    "if another agent version wrote the record, run that version; otherwise delete the file once"
    " the Pod is deleted; the Pod's routes and rules may stay in the kernel until the next reboot"
)
READ_REMEDY: Final = (
    "make the file readable, or delete the file once the Pod is deleted; the Pod's routes and rules"
    " may then stay in the kernel until the next reboot"
)
LIMIT_REMEDY: Final = (
    "compare the records with the Pods of this node, and check that the runtime calls GC"
)


class AttachmentRecord(msgspec.Struct, frozen=True, array_like=True):
    """The changes that an ADD made for one attachment, or was about to make.

    ``device`` and ``inode`` identify the network namespace. ``link``, ``pod_veth`` and
    ``host_veth`` are interface indexes. ``own_veth``: whether the coordinator created the veth pair
    for this NIC. ``mac``: the NIC's new MAC address, or b"".
    ``rdma``: the RDMA device that was moved into the Pod, or "".
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
        """Write a record. Raises DatapathError."""
        data = self._encode(msgspec.structs.replace(record, plan=_encodable_plan(record.plan)))
        path = self._path(record.container, record.interface)
        temporary = path.with_name(f".{path.name}")
        try:
            try:
                temporary.write_bytes(data)
            except FileNotFoundError:
                self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
                temporary.write_bytes(data)
            temporary.rename(path)  # the file is complete or absent
        except OSError as error:
            raise DatapathError(
                f"cannot write {path}: {error.strerror}",
                subject=str(path),
                remedy="make the directory writable; it needs a few kilobytes for each Pod",
            ) from error

    def get(self, container: str, interface: str) -> AttachmentRecord | None:
        """The record of an attachment; None if there is no readable record."""
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
        """All readable records, up to ``RECORDS_MAX``. Other records are reported as faults."""
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
                raise ValueError("the file name does not match the attachment in the record")
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
            self._faults.clear_limit("RECORDS_MAX")
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
    # Only error texts use the subject, and msgpack cannot encode its 128-bit integers.
    kind, flags, body, verb, _, tolerated = request
    return Request(kind, flags, body, verb, "", tolerated)
