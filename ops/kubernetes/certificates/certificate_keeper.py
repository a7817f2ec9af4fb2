"""Creates and renews the certificate of the webhooks, in a Secret that all replicas share.

Each replica renews the Secret, writes the files of the webhook server, and writes the authorities
to ``caBundle`` of the webhook configurations. If several replicas write, the resourceVersion lets
one succeed. Replicas use the clock of the API server, which verifies the certificates.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import datetime as dt
import logging
import os
import random
from pathlib import Path
from typing import Final

from core.errors import ApiConflict, ApiError, ApiNotFound, BadInput
from core.kubernetes.api_client import Api, Object
from core.process.retry import Backoff
from ops.kubernetes.admission.configurations import CONFIGURATION_NAME
from ops.kubernetes.certificates.authority import CertificateRequest, KeyPair, bundle, split
from ops.kubernetes.certificates.rotation import StoredAuthorities, next_step, valid_until
from ops.kubernetes.settings import SecretSettings

RECONCILE_S: Final = 60.0

RETRY_S: Final = 2.0
TRIES_MAX: Final = 8
"""Passes of one reconciliation. It ends after a pass that changes nothing."""

SECRETS_PATH: Final = "/api/v1/namespaces/{}/secrets"
CONFIGURATIONS: Final = tuple(
    f"/apis/admissionregistration.k8s.io/v1/{kind}webhookconfigurations/{CONFIGURATION_NAME}"
    for kind in ("mutating", "validating")
)
COMMON_NAME: Final = "orbweaver-webhooks"
FIELDS: Final = ("ca.crt", "ca.key", "tls.crt", "tls.key")

_log: Final = logging.getLogger(__name__)


class CertificateKeeper:
    """Reconciles the certificate, in one replica."""

    def __init__(self, api: Api, settings: SecretSettings) -> None:
        self._api = api
        self._settings = settings
        self._request = CertificateRequest(COMMON_NAME, settings.names)

    async def open(self) -> None:
        """Reconcile until the first success, which writes the files."""
        backoff = Backoff(RETRY_S)
        while not await self._try_reconcile():
            await backoff.wait()

    async def run(self) -> None:
        """Reconcile periodically until cancelled."""
        while True:
            # Random, so that replicas do not reconcile at the same time.
            await asyncio.sleep(RECONCILE_S * random.uniform(0.5, 1.0))  # noqa: S311  # a pause
            await self._try_reconcile()

    async def reconcile(self) -> None:
        """Create or renew Secret, files and webhook configurations. Raises ApiError."""
        for _ in range(TRIES_MAX):
            stored, secret = await self._read()
            is_trusted = stored is not None and await self._is_trusted(stored)
            due = next_step(stored, self._request, self._now(), is_trusted=is_trusted)
            if due is not None:
                await self._write(due, secret)
                continue
            assert stored is not None, "next_step makes certificates if nothing is stored"
            _write_files(self._settings.directory, stored.issued)
            if await self._publish(stored):
                continue  # a new authority is trusted now and may issue certificates
            return

    async def _try_reconcile(self) -> bool:
        try:
            await self.reconcile()
        except (ApiError, OSError) as error:
            _log.warning("the webhook's certificate could not be checked or renewed: %s", error)
            return False
        return True

    def _now(self) -> dt.datetime:
        return dt.datetime.fromtimestamp(self._api.server_clock_s, dt.UTC)

    async def _read(self) -> tuple[StoredAuthorities | None, Object | None]:
        """The stored certificates, None if unusable; and the Secret, None if it does not exist."""
        path = f"{SECRETS_PATH.format(self._settings.namespace)}/{self._settings.name}"
        try:
            secret = await self._api.get(path)
        except ApiNotFound:
            return None, None
        try:
            return _decode_secret(secret), secret
        except BadInput as error:
            _log.warning(
                "Secret %s has no usable certificate; its contents are replaced: %s",
                path,
                error.message,
            )
            return None, secret

    async def _write(self, due: StoredAuthorities, secret: Object | None) -> None:
        """Write the Secret, unless another replica has written it meanwhile."""
        path = SECRETS_PATH.format(self._settings.namespace)
        values = (bundle(due.authorities), due.authority_key, *due.issued)
        data = {
            field: base64.b64encode(value).decode()
            for field, value in zip(FIELDS, values, strict=True)
        }
        try:
            if secret is None:
                metadata = {"name": self._settings.name, "labels": {"app": "orbweaver"}}
                secret_type = {"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls"}
                await self._api.create(path, {**secret_type, "metadata": metadata, "data": data})
            else:
                version = {"resourceVersion": secret["metadata"]["resourceVersion"]}
                body = {"metadata": version, "data": data}
                await self._api.merge(f"{path}/{self._settings.name}", body)
        except ApiConflict:
            return  # the next pass reads the Secret of the other replica
        fields = {"secret": self._settings.name, "until": valid_until(due).isoformat()}
        _log.info("renewed the webhook's certificates", extra={"fields": fields})

    async def _is_trusted(self, stored: StoredAuthorities) -> bool:
        """Whether every webhook configuration has the newest authority."""
        for path in CONFIGURATIONS:
            configuration = await self._configuration(path)
            for webhook in (configuration or {}).get("webhooks") or ():
                if stored.authorities[0] not in _authorities_of(webhook):
                    return False
        return True

    async def _publish(self, stored: StoredAuthorities) -> bool:
        """Write all authorities to the webhook configurations; return whether any differed."""
        ca_bundle = base64.b64encode(bundle(stored.authorities)).decode()
        changed = False
        for path in CONFIGURATIONS:
            configuration = await self._configuration(path)
            webhooks = (configuration or {}).get("webhooks") or []
            if configuration is None or all(
                _bundle_of(webhook) == ca_bundle for webhook in webhooks
            ):
                continue
            for webhook in webhooks:
                webhook["clientConfig"]["caBundle"] = ca_bundle
            version = {"resourceVersion": configuration["metadata"]["resourceVersion"]}
            changed = True
            try:
                await self._api.merge(path, {"metadata": version, "webhooks": webhooks})
            except ApiConflict:
                _log.info("%s was changed by another controller; reading it again", path)
        return changed

    async def _configuration(self, path: str) -> Object | None:
        try:
            return await self._api.get(path)
        except ApiNotFound:
            return None


def _decode_secret(secret: Object) -> StoredAuthorities:
    data = secret.get("data") or {}
    try:
        authorities, key, certificate, issued_key = (
            base64.b64decode(data.get(field, ""), validate=True) for field in FIELDS
        )
    except (binascii.Error, ValueError, TypeError) as error:
        raise BadInput(f"its data is not base64: {error}", subject="Secret") from None
    return StoredAuthorities(split(authorities), key, KeyPair(certificate, issued_key))


def _bundle_of(webhook: Object) -> str:
    return str((webhook.get("clientConfig") or {}).get("caBundle") or "")


def _authorities_of(webhook: Object) -> tuple[bytes, ...]:
    try:
        return split(base64.b64decode(_bundle_of(webhook)))
    except (BadInput, binascii.Error):
        return ()


def _write_files(directory: Path, issued: KeyPair) -> None:
    """Between the two writes the files do not match; ``ServedCertificate`` retries then."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name, content in (("tls.key", issued.key), ("tls.crt", issued.certificate)):
        path = directory / name
        if path.is_file() and path.read_bytes() == content:
            continue
        temporary = path.with_name(f".{name}")
        temporary.unlink(missing_ok=True)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        temporary.replace(path)
