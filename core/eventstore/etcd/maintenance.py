"""Maintain etcd's members: defragment the databases, and disarm the alarm NOSPACE.

With authentication, only the user ``root`` may defragment. Controllers may disarm the alarm.
"""

from __future__ import annotations

from typing import Any, Final

from core.eventstore.etcd import messages
from core.eventstore.etcd.calls import Calls
from core.eventstore.etcd.messages import ProtobufMessage
from core.eventstore.etcd.methods import Method
from core.eventstore.etcd.settings import EtcdSettings

DEFRAGMENT_S_MAX: Final = 120.0
"""For one member, which rewrites its whole database: 4 GiB take about 40 s on a slow disk."""


class EtcdMaintenance:
    """Maintenance of the members of one cluster. All calls are idempotent."""

    def __init__(self, settings: EtcdSettings) -> None:
        self._settings = settings

    async def defragment(self) -> None:
        """Defragment each member in turn. Raises StoreRejected (not root), StoreUnavailable."""
        slow = self._settings._replace(
            read_attempt_s=DEFRAGMENT_S_MAX, read_deadline_s=DEFRAGMENT_S_MAX
        )
        for endpoint in slow.endpoints:
            member = slow._replace(endpoints=(endpoint,))
            await _call(member, "defragment", messages.DefragmentRequest())

    async def disarm(self) -> None:
        """Disarm every active NOSPACE. Raises StoreRejected, StoreUnavailable."""
        answer = await _call(self._settings, "alarm", messages.AlarmRequest())
        for raised in answer.alarms:
            if raised.alarm == messages.ALARM_NOSPACE:
                request = messages.AlarmRequest(
                    action=messages.ALARM_DEACTIVATE,
                    memberID=raised.memberID,
                    alarm=messages.ALARM_NOSPACE,
                )
                await _call(self._settings, "alarm", request)


async def _call(settings: EtcdSettings, method: Method, request: ProtobufMessage) -> Any:
    calls = Calls(settings)
    try:
        return await calls.repeat(method, request)
    finally:
        await calls.close()
