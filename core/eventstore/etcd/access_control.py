"""Enable etcd's access control: create roles and users, and require authentication.

The client must be ``root``. A repeated call updates changed permissions, and keeps other users and
roles.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Sequence
from typing import Any, Final

from core.errors import StoreRejected
from core.eventstore.etcd import messages
from core.eventstore.etcd.calls import Calls
from core.eventstore.etcd.messages import ProtobufMessage
from core.eventstore.etcd.methods import Method
from core.eventstore.etcd.settings import EtcdSettings
from core.eventstore.roles import ROOT_USER, EtcdRole, Permission

_EXISTS: Final = ("etcdserver: user name already exists", "etcdserver: role name already exists")
_PASSWORD_BYTES: Final = 32

_log: Final = logging.getLogger(__name__)


async def enable_access_control(settings: EtcdSettings, roles: Sequence[EtcdRole]) -> None:
    """Create or update roles and users, then require authentication.

    Raises StoreUnavailable, and StoreRejected if the client is not ``root``.
    """
    calls = Calls(settings)
    try:
        auth = _AuthCalls(calls)
        for role in roles:
            await auth.make_role(role)
            await auth.make_user(role.user, role.name)
        await auth.make_user(ROOT_USER, ROOT_USER)
        await auth.call("auth_enable", messages.AuthEnableRequest())
    finally:
        await calls.close()
    _log.info("etcd requires authentication; roles: %s", ", ".join(role.name for role in roles))


class _AuthCalls:
    """Idempotent calls of etcd's Auth service. They raise StoreUnavailable, StoreRejected."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    async def call(self, method: Method, request: ProtobufMessage) -> Any:
        return await self._calls.repeat(method, request)

    async def make_user(self, user: str, role: str) -> None:
        """Users authenticate by certificate, so the password is random and not stored."""
        password = secrets.token_urlsafe(_PASSWORD_BYTES)
        await self._add_if_absent(
            "user_add", messages.AuthUserAddRequest(name=user, password=password)
        )
        await self.call("user_grant", messages.AuthUserGrantRoleRequest(user=user, role=role))

    async def make_role(self, role: EtcdRole) -> None:
        """The role gets exactly ``role.permissions``."""
        await self._add_if_absent("role_add", messages.AuthRoleAddRequest(name=role.name))
        response = await self.call("role_get", messages.AuthRoleGetRequest(role=role.name))
        current_permissions = {
            Permission(perm.key, perm.range_end, _may_write(perm)) for perm in response.perm
        }
        desired_permissions = set(role.permissions)
        for permission in sorted(desired_permissions - current_permissions):
            grant = messages.AuthRoleGrantPermissionRequest(name=role.name)
            grant.perm.key, grant.perm.range_end = permission.start, permission.end
            grant.perm.permType = messages.READWRITE if permission.may_write else messages.READ
            await self.call("role_grant", grant)
        # A grant has replaced the old permission of its range; only other ranges are revoked.
        ranges = {(permission.start, permission.end) for permission in desired_permissions}
        for permission in sorted(current_permissions - desired_permissions):
            if (permission.start, permission.end) not in ranges:
                await self.call("role_revoke", _revoke_request(role.name, permission))

    async def _add_if_absent(self, method: Method, request: ProtobufMessage) -> None:
        try:
            await self.call(method, request)
        except StoreRejected as error:
            if not any(text in error.message for text in _EXISTS):
                raise


def _may_write(permission: messages.PermissionMessage) -> bool:
    return permission.permType == messages.READWRITE


def _revoke_request(role: str, permission: Permission) -> ProtobufMessage:
    # The keys in this message are strings; keys in other messages are bytes.
    start, end = permission.start.decode(), permission.end.decode()
    request: ProtobufMessage = messages.AuthRoleRevokePermissionRequest(
        role=role, key=start, range_end=end
    )
    return request
