"""The webhooks' certificate, kept by the controllers themselves: one Secret, any replica rotates.

Each replica looks at the Secret, makes or renews what is due (the Secret's version lets only one of
several win, and the others take what it wrote), writes certificate and key to files that the
webhook server reads, and puts the authorities into the webhook configurations. The time is the API
server's: it judges the certificates, and clocks of replicas that disagree would rotate in turns.
It creates no webhook configuration and touches nothing of one but ``caBundle``.
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
from core.kubernetes.api import Api, Object
from ops.kubernetes.admission.configurations import NAME
from ops.kubernetes.certificates.authority import CertificateRequest, KeyPair, bundle, split
from ops.kubernetes.certificates.rotation import StoredAuthorities, ends, next_step
from ops.kubernetes.settings import SecretSettings

LOOK_S: Final = 60.0
RETRY_S: Final = 2.0
TRIES_MAX: Final = 8
"""Steps in one look: each change of the Secret is one."""

SECRETS: Final = "/api/v1/namespaces/{}/secrets"
CONFIGURATIONS: Final = tuple(
    f"/apis/admissionregistration.k8s.io/v1/{kind}webhookconfigurations/{NAME}"
    for kind in ("mutating", "validating")
)
COMMON_NAME: Final = "orbweaver-webhooks"
FIELDS: Final = ("ca.crt", "ca.key", "tls.crt", "tls.key")

_log: Final = logging.getLogger(__name__)


class CertificateKeeper:
    """One replica's part."""

    def __init__(self, api: Api, settings: SecretSettings) -> None:
        self._api = api
        self._settings = settings
        self._wanted = CertificateRequest(COMMON_NAME, settings.names)

    async def open(self) -> None:
        """Return when there are files to serve; however long the API server is away."""
        while True:
            if await self._looked():
                return
            await asyncio.sleep(RETRY_S)

    async def run(self) -> None:
        """Look again and again, until cancelled."""
        while True:
            # Not all replicas at once.
            await asyncio.sleep(LOOK_S * random.uniform(0.5, 1.0))  # noqa: S311  # a pause
            await self._looked()

    async def look(self) -> None:
        """Bring Secret, files and webhook configurations in order. Raises ApiError."""
        for _ in range(TRIES_MAX):
            kept, secret = await self._read()
            is_trusted = await self._trusts(kept) if kept is not None else False
            step = next_step(kept, self._wanted, self._now(), is_trusted=is_trusted)
            if step is not None:
                await self._write(step, secret)
                continue
            assert kept is not None, "nothing was made, so something was there"
            _write_files(self._settings.directory, kept.issued)
            if await self._spread(kept):
                continue  # who trusts it now may allow the next step
            return

    async def _looked(self) -> bool:
        try:
            await self.look()
        except (ApiError, OSError) as error:
            _log.warning("the webhook's certificate could not be checked or renewed: %s", error)
            return False
        return True

    def _now(self) -> dt.datetime:
        return dt.datetime.fromtimestamp(self._api.clock_s, dt.UTC)

    async def _read(self) -> tuple[StoredAuthorities | None, Object | None]:
        """What is kept, None where it cannot be used; and the Secret, None where there is none."""
        path = f"{SECRETS.format(self._settings.namespace)}/{self._settings.name}"
        try:
            secret = await self._api.get(path)
        except ApiNotFound:
            return None, None
        try:
            return _kept(secret), secret
        except BadInput as error:
            _log.warning(
                "Secret %s has no usable certificate and is created again: %s", path, error
            )
            return None, secret

    async def _write(self, kept: StoredAuthorities, secret: Object | None) -> None:
        """Write the next step, unless another replica has written meanwhile."""
        path = SECRETS.format(self._settings.namespace)
        values = (bundle(kept.authorities), kept.authority_key, *kept.issued)
        data = {
            field: base64.b64encode(value).decode()
            for field, value in zip(FIELDS, values, strict=True)
        }
        try:
            if secret is None:
                metadata = {"name": self._settings.name, "labels": {"app": "orbweaver"}}
                one = {"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls"}
                await self._api.create(path, {**one, "metadata": metadata, "data": data})
            else:
                version = {"resourceVersion": secret["metadata"]["resourceVersion"]}
                body = {"metadata": version, "data": data}
                await self._api.merge(f"{path}/{self._settings.name}", body)
        except ApiConflict:
            return  # the next look takes what the other one wrote
        fields = {"secret": self._settings.name, "until": ends(kept).isoformat()}
        _log.info("renewed the webhook's certificates", extra={"fields": fields})

    async def _trusts(self, kept: StoredAuthorities) -> bool:
        """Whether every webhook configuration knows the newest authority."""
        for path in CONFIGURATIONS:
            one = await self._configuration(path)
            for webhook in (one or {}).get("webhooks") or ():
                if kept.authorities[0] not in _known(webhook):
                    return False
        return True

    async def _spread(self, kept: StoredAuthorities) -> bool:
        """Tell the webhook configurations of all authorities; whether one had to be told."""
        wanted = base64.b64encode(bundle(kept.authorities)).decode()
        is_news = False
        for path in CONFIGURATIONS:
            one = await self._configuration(path)
            webhooks = (one or {}).get("webhooks") or []
            if one is None or all(_bundle_of(webhook) == wanted for webhook in webhooks):
                continue
            for webhook in webhooks:
                webhook["clientConfig"]["caBundle"] = wanted
            version = {"resourceVersion": one["metadata"]["resourceVersion"]}
            is_news = True
            try:
                await self._api.merge(path, {"metadata": version, "webhooks": webhooks})
            except ApiConflict:
                _log.info("%s was changed by another controller; reading it again", path)
        return is_news

    async def _configuration(self, path: str) -> Object | None:
        try:
            return await self._api.get(path)
        except ApiNotFound:
            return None


def _kept(secret: Object) -> StoredAuthorities:
    """Raises BadInput."""
    data = secret.get("data") or {}
    try:
        authorities, key, certificate, own = (
            base64.b64decode(data.get(field, ""), validate=True) for field in FIELDS
        )
    except (binascii.Error, ValueError, TypeError) as error:
        raise BadInput(f"not base64: {error}", subject="Secret") from None
    return StoredAuthorities(split(authorities), key, KeyPair(certificate, own))


def _bundle_of(webhook: Object) -> str:
    return str((webhook.get("clientConfig") or {}).get("caBundle") or "")


def _known(webhook: Object) -> tuple[bytes, ...]:
    try:
        return split(base64.b64decode(_bundle_of(webhook)))
    except (BadInput, binascii.Error):
        return ()


def _write_files(directory: Path, issued: KeyPair) -> None:
    """The key first: who reads between the two sees an error, and reads again. Raises OSError."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name, content in (("tls.key", issued.key), ("tls.crt", issued.certificate)):
        path = directory / name
        if path.is_file() and path.read_bytes() == content:
            continue
        beside = path.with_name(f".{name}")
        beside.unlink(missing_ok=True)
        with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(content)
        beside.replace(path)
