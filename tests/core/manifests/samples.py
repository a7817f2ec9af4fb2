"""Sample manifests, and functions that read a manifest."""

from __future__ import annotations

from core.domain.configuration.commands import ApplyPool, ApplyRecord, ApplyReservation, Command
from core.domain.events import RecordDefined
from core.domain.model import Pool, Reservation
from core.errors import BadInput
from core.manifests.commands import apply_command
from tests.support.manifests import load_documents

POOL_YAML = """\
apiVersion: spiderpool.spidernet.io/v2beta1
kind: SpiderIPPool
metadata:
  name: blue
spec:
  subnet: 10.7.0.0/16
  ips:
  - 10.7.0.10-10.7.0.20
"""

RESERVATION_YAML = """\
apiVersion: spiderpool.spidernet.io/v2beta1
kind: SpiderReservedIP
metadata:
  name: kept
spec:
  ips: ["10.7.0.1"]
"""


def command_of(text: str) -> Command:
    """The command for the only object in ``text``."""
    (manifest,) = load_documents(text)
    return apply_command(manifest)


def pool_of(text: str) -> Pool:
    command = command_of(text)
    assert isinstance(command, ApplyPool)
    return command.pool


def reservation_of(text: str) -> Reservation:
    command = command_of(text)
    assert isinstance(command, ApplyReservation)
    return command.reservation


def record_of(text: str) -> RecordDefined:
    command = command_of(text)
    assert isinstance(command, ApplyRecord)
    return command.record


def error_of(text: str) -> BadInput:
    """The error that reading ``text`` raises."""
    try:
        manifests = load_documents(text)
    except BadInput as error:
        return error
    raise AssertionError(f"expected BadInput, got {manifests}")
