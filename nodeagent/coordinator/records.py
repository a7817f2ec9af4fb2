"""What was done for each attachment, on the node itself, until its DEL.

Written before the kernel is changed, so that an agent that was killed in the middle leaves a
trail: the next ADD goes on, the next DEL takes back. CHECK compares the kernel with it. Promise: a
record is whole or not there (temporary file, rename). Nothing of it is worth an fsync, because the
kernel's state is lost with the power too: the directory belongs on a tmpfs (below /run).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

from core.domain.addresses import Family
from core.errors import DatapathError
from nodeagent.coordinator.steps import Plan, Step
from nodeagent.netlink.requests import Request

RECORDS_MAX: Final = 20_000
"""Records that one GC looks at; a node holds hundreds."""

_log: Final = logging.getLogger(__name__)

CONTAINER_CHARACTERS_MAX: Final = 128
"""Of the container id in a file name: a runtime's has 64."""

VERSION: Final = 1


class Undertaking(msgspec.Struct, frozen=True, array_like=True):
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
    plan: Plan
    version: int = VERSION

    @property
    def steps(self) -> tuple[Step, ...]:
        """All steps of both sides."""
        return (*self.plan.pod, *self.plan.host)


class Records:
    """The records of this node, a file each. Safe to use from several threads."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._encode = msgspec.msgpack.Encoder().encode
        self._decode = msgspec.msgpack.Decoder(Undertaking).decode

    def put(self, undertaking: Undertaking) -> None:
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

    def get(self, container: str, interface: str) -> Undertaking | None:
        """What was undertaken; None: nothing, or nothing that can be read."""
        with suppress(OSError, msgspec.DecodeError):
            found = self._decode(self._path(container, interface).read_bytes())
            same = (found.container, found.interface) == (container, interface)
            return found if same and found.version == VERSION else None
        return None

    def remove(self, container: str, interface: str) -> None:
        """Forget it; that there is none is fine."""
        with suppress(OSError):
            self._path(container, interface).unlink(missing_ok=True)

    def all(self) -> Iterator[Undertaking]:
        """Every record, up to the bound."""
        with suppress(FileNotFoundError):
            for number, path in enumerate(sorted(self._directory.iterdir())):
                if number >= RECORDS_MAX:
                    _log.warning(
                        "more than %d records in %s, the limit: the others are not looked at",
                        *(RECORDS_MAX, self._directory),
                    )
                    return
                with suppress(OSError, msgspec.DecodeError):
                    found = self._decode(path.read_bytes())
                    if found.version == VERSION and not path.name.startswith("."):
                        yield found

    def _path(self, container: str, interface: str) -> Path:
        return self._directory / f"{container[:CONTAINER_CHARACTERS_MAX]}@{interface}"


def _plain_plan(plan: Plan) -> Plan:
    pod, host = tuple(map(_plain, plan.pod)), tuple(map(_plain, plan.host))
    return plan._replace(pod=pod, host=host)


def _plain(step: Step) -> Step:
    return Step(_without_subject(step.do), step.undo and _without_subject(step.undo))


def _without_subject(request: Request) -> Request:
    # The bytes say it all; values with 128 bits fit into no number of the file.
    kind, flags, body, verb, _, tolerated = request
    return Request(kind, flags, body, verb, "", tolerated)
