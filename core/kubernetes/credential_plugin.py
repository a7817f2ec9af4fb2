"""Runs the exec credential plugin of a kubeconfig (``client.authentication.k8s.io``).

The plugin prints a token or a certificate, and is run again shortly before this credential expires.
Error texts contain no tokens.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import msgspec

from core.kubernetes.tokens import NoAccess
from core.process.supervision import BackgroundTasks

PLUGIN_S_MAX: Final = 60.0

EXPIRES_EARLY: Final = timedelta(seconds=10)
"""A credential is replaced this long before it expires."""

ERROR_CHARS_MAX: Final = 1_000


class _Status(msgspec.Struct, rename="camel"):
    token: str = ""
    client_certificate_data: str = ""
    client_key_data: str = ""
    expiration_timestamp: datetime | None = None


class _ExecCredential(msgspec.Struct, rename="camel"):
    api_version: str
    status: _Status


class CredentialPlugin:
    """A plugin and its last credential. The constructor and ``authorization`` raise NoAccess.

    ``settings``: the field ``exec`` of a kubeconfig's user. ``directory``: where the kubeconfig is.
    """

    def __init__(self, settings: Mapping[str, Any], directory: Path) -> None:
        try:
            command, self._version = str(settings["command"]), str(settings["apiVersion"])
            variables = {item["name"]: item["value"] for item in settings.get("env") or ()}
        except KeyError as error:
            raise NoAccess(f"the field exec of the kubeconfig's user has no {error}") from None
        # As in kubectl, a name is searched in PATH, and a path is relative to the kubeconfig.
        program = str(directory / command) if "/" in command else command
        self._command = [program, *map(str, settings.get("args") or ())]
        self._variables = variables
        self._status: _Status | None = None
        self._tasks = BackgroundTasks(f"exec credential plugin {command}")
        self._renewal: asyncio.Task[_Status | NoAccess] | None = None

    async def authorization(self) -> str:
        """See ``TokenSource``."""
        token = (await self._current()).token
        return f"Bearer {token}" if token else ""

    @property
    def certificate(self) -> tuple[bytes, bytes]:
        """The PEM certificate and key that the plugin printed last; (b"", b"") for none."""
        if self._status is None:
            return b"", b""
        return self._status.client_certificate_data.encode(), self._status.client_key_data.encode()

    async def _current(self) -> _Status:
        if self._status is not None and not _is_expired(self._status):
            return self._status
        if self._renewal is None:
            self._renewal = self._tasks.start(self._renew())
        # A cancelled request does not stop the plugin: the next request uses its credential.
        answer = await asyncio.shield(self._renewal)
        if isinstance(answer, NoAccess):
            raise answer
        return answer

    async def _renew(self) -> _Status | NoAccess:
        """Run the plugin. An error is returned, because its callers report it."""
        try:
            self._status = await self._run()
        except NoAccess as error:
            return error
        finally:
            self._renewal = None
        return self._status

    async def _run(self) -> _Status:
        info = {"apiVersion": self._version, "kind": "ExecCredential"}
        request = json.dumps(info | {"spec": {"interactive": False}})
        try:
            process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                env={**os.environ, **self._variables, "KUBERNETES_EXEC_INFO": request},
            )
        except OSError as error:
            raise NoAccess(
                f"the exec credential plugin {self._command[0]} cannot be started: {error}"
            ) from None
        try:
            async with asyncio.timeout(PLUGIN_S_MAX):
                output, error_output = await process.communicate()
        except TimeoutError:
            raise self._failed(f"took longer than {PLUGIN_S_MAX:g} s") from None
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if process.returncode:
            text = error_output.decode("utf-8", "replace").strip()[:ERROR_CHARS_MAX]
            raise self._failed(f"exited with code {process.returncode}: {text}")
        return self._decode(output)

    def _decode(self, output: bytes) -> _Status:
        try:
            credential = msgspec.json.decode(output, type=_ExecCredential)
        except msgspec.DecodeError:
            raise self._failed("did not print an ExecCredential") from None
        if credential.api_version != self._version:
            raise self._failed(
                f"printed apiVersion {credential.api_version}, expected {self._version}"
            )
        status = credential.status
        if not status.token and not (status.client_certificate_data and status.client_key_data):
            raise self._failed("printed neither a token nor a certificate with its key")
        return status

    def _failed(self, reason: str) -> NoAccess:
        return NoAccess(f"the exec credential plugin {self._command[0]} {reason}")


def _is_expired(status: _Status) -> bool:
    expiration = status.expiration_timestamp
    if expiration is None:
        return False
    if expiration.tzinfo is None:
        expiration = expiration.replace(tzinfo=UTC)
    return datetime.now(UTC) >= expiration - EXPIRES_EARLY
