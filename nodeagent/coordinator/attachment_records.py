"""What was done for each attachment, on the node itself, until its DEL.

Written before the kernel is changed, so that an agent that was killed in the middle leaves a
trail: the next ADD goes on, the next DEL takes back. CHECK compares the kernel with it. Promise: a
record is whole or not there (temporary file, rename). Nothing of it is worth an fsync, because the
kernel's state is lost with the power too: the directory belongs on a tmpfs (below /run).

A file that cannot be read, or that a newer version wrote, is reported to the process' contained
faults and kept: the version that wrote it takes back what it says.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

from core.domain.addresses.ip_address import Family
from core.errors import DatapathError, LogCorrupt
from core.eventstore.codec import UNREADABLE, words_of
from core.eventstore.faults import Faults
from nodeagent.coordinator.steps import AttachmentPlan, PlanStep
from nodeagent.netlink.requests import Request

RECORDS_MAX: Final = 20_000
"""Records that one GC looks at; a node holds hundreds."""


CONTAINER_CHARACTERS_MAX: Final = 128
"""Of the container id in a file name: a runtime's has 64."""

VERSION: Final = 1

KIND: Final = "attachment record"
REMEDY: Final = (
    "run the agent's version that wrote it; once its Pod is gone, delete the file: a reboot ends"
    " what is left of it in the kernel"
)
LIMIT_REMEDY: Final = "see why so many attachments are left: orbctl node, GC of the runtime"


class AttachmentRecord(msgspec.Struct, frozen=True, array_like=True):
    """One attachment as it was set up, or was to be. ``own_veth``: we made the pair.

    ``inode`` and ``device`` tell the namespace, ``link`` the NIC, ``wire`` and ``peer`` the ends of
    the wire in the Pod and on the host: with the same numbers it is the same Pod. ``order`` is a
    fingerprint of what was asked for, ``mac`` the address the NIC was given, b"" for none.
    """

    network: str
    container: str
    interface: str
    netns: str
    device: int
    inode: int
    link: int
    wire: int
    wire_name: str
    peer: int
    peer_name: str
    own_veth: bool
    families: tuple[Family, ...]
    mode: str
    table: int
    order: bytes
    mac: bytes
    plan: AttachmentPlan
    version: int = VERSION

    @property
    def steps(self) -> tuple[PlanStep, ...]:
        """All steps of both sides."""
        return (*self.plan.pod, *self.plan.host)


class AttachmentRecords:
    """The records of this node, a file each. Safe to use from several threads."""

    def __init__(self, directory: Path, faults: Faults | None = None) -> None:
        self._directory = directory
        self._faults = Faults() if faults is None else faults
        self._encode = msgspec.msgpack.Encoder().encode
        self._decode = msgspec.msgpack.Decoder(AttachmentRecord).decode

    def put(self, undertaking: AttachmentRecord) -> None:
        """Keep it. Raises DatapathError."""
        data = self._encode(
            msgspec.structs.replace(undertaking, plan=_plain_plan(undertaking.plan))
        )
        path = self._path(undertaking.container, undertaking.interface)
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
                remedy="the agent keeps there what it has set up; it needs some kilobytes a Pod",
            ) from error

    def get(self, container: str, interface: str) -> AttachmentRecord | None:
        """What was undertaken; None: nothing, or (reported) nothing that can be read."""
        found = self._read(self._path(container, interface))
        if found is None or (found.container, found.interface) != (container, interface):
            return None
        return found

    def remove(self, container: str, interface: str) -> None:
        """Forget it; that there is none is fine."""
        path = self._path(container, interface)
        with suppress(OSError):
            path.unlink(missing_ok=True)
        self._faults.clear(_key(path))

    def all(self) -> Iterator[AttachmentRecord]:
        """Every record that can be read, up to the bound; what is left out is reported."""
        self._faults.clear_kinds(KIND)
        paths: list[Path] = []
        with suppress(FileNotFoundError):
            paths = sorted(self._directory.iterdir())
        self._report_limit(len(paths))
        for path in paths[:RECORDS_MAX]:
            found = None if path.name.startswith(".") else self._read(path)
            if found is not None:
                yield found

    def _read(self, path: Path) -> AttachmentRecord | None:
        try:
            found = self._decode(path.read_bytes())
            if found.version != VERSION:
                raise ValueError(f"version {found.version} is unknown")
            if self._path(found.container, found.interface) != path:
                raise ValueError("it belongs to another attachment")
        except FileNotFoundError:
            return None
        except (OSError, *UNREADABLE) as error:
            why = f"record {path} cannot be read: {words_of(error)}"
            self._faults.report(KIND, _key(path), LogCorrupt(why, remedy=REMEDY))
            return None
        self._faults.clear(_key(path))
        return found

    def _report_limit(self, count: int) -> None:
        if count <= RECORDS_MAX:
            self._faults.keep_within("RECORDS_MAX")
            return
        why = f"{RECORDS_MAX} of {count} records in {self._directory} are looked at"
        self._faults.reach_limit("RECORDS_MAX", why, LIMIT_REMEDY)

    def _path(self, container: str, interface: str) -> Path:
        return self._directory / f"{container[:CONTAINER_CHARACTERS_MAX]}@{interface}"


def _key(path: Path) -> str:
    return f"{KIND}/{path.name}"


def _plain_plan(plan: AttachmentPlan) -> AttachmentPlan:
    pod, host = tuple(map(_plain, plan.pod)), tuple(map(_plain, plan.host))
    return plan._replace(pod=pod, host=host)


def _plain(step: PlanStep) -> PlanStep:
    return PlanStep(_without_subject(step.do), step.undo and _without_subject(step.undo))


def _without_subject(request: Request) -> Request:
    # The bytes say it all; values with 128 bits fit into no number of the file.
    kind, flags, body, verb, _, tolerated = request
    return Request(kind, flags, body, verb, "", tolerated)
