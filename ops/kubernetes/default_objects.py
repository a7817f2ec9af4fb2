"""Creates the default objects of a new installation from a file.

Existing objects are not changed. Failed creations are retried, because the webhooks respond only
some time after the installation.
"""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Final

import yaml

from core.errors import ApiConflict, ApiError, ApiRejected, ApiUnavailable, BadInput
from core.kubernetes.api_client import Api, Object
from core.manifests.crds.names_and_columns import CUSTOM_RESOURCE_KINDS
from core.manifests.kinds.fields import API_VERSION
from core.process.retry import Backoff

OBJECTS_MAX: Final = 1_000

CREATE_S_MAX: Final = 240.0
"""``create_all`` must end before the chart's Job, which is stopped after 300 s."""

PAUSE_S: Final = 2.0

_log: Final = logging.getLogger(__name__)


def read_objects(text: str, path: str) -> list[Object]:
    """The documents of a file. Raises BadInput."""
    try:
        objects = [body for body in yaml.safe_load_all(text) if body is not None]
    except yaml.YAMLError as error:
        raise BadInput(
            f"{path} is not YAML: {error}", subject=path, remedy="correct its syntax"
        ) from None
    if len(objects) > OBJECTS_MAX:
        raise BadInput(
            f"{path} has {len(objects)} objects, more than {OBJECTS_MAX}",
            subject=path,
            remedy="put only default objects into the file; apply others with kubectl",
        )
    for number, body in enumerate(objects, start=1):
        _check_form(number, body, path)
        collection_of(body)
    return objects


def _check_form(number: int, body: object, path: str) -> None:
    metadata = body.get("metadata") if isinstance(body, dict) else None
    if not isinstance(metadata, dict) or not isinstance(metadata.get("name"), str):
        raise BadInput(
            f"document {number} of {path} is not an object with metadata.name",
            subject=path,
            remedy="write each object with apiVersion, kind and metadata.name",
        )


def collection_of(body: Object) -> str:
    """The path of the collection in which to create an object. Raises BadInput for its kind."""
    kind = next((kind for kind in CUSTOM_RESOURCE_KINDS if kind.name == body.get("kind")), None)
    if kind is None or body.get("apiVersion") != API_VERSION:
        text = (
            f"the default object {body['metadata']['name']} is of {body.get('apiVersion')}"
            f" {body.get('kind')}, which is not a kind of {API_VERSION}"
        )
        raise BadInput(
            text, subject="kind", remedy=f"put only objects of {API_VERSION} into the file"
        )
    namespace = body["metadata"].get("namespace", "default")
    namespace_path = f"/namespaces/{namespace}" if kind.namespaced else ""
    return f"/apis/{API_VERSION}{namespace_path}/{kind.plural}"


async def create_all(
    api: Api, objects: Sequence[Object], monotonic: Callable[[], float] = time.monotonic
) -> AsyncIterator[tuple[Object, bool]]:
    """Create the objects; yield (object, whether it was created) for each.

    Raises ApiRejected, and ApiUnavailable after ``CREATE_S_MAX``.
    """
    deadline = monotonic() + CREATE_S_MAX
    backoff = Backoff(PAUSE_S)
    for body in objects:
        created: bool | None = None
        while created is None:
            is_last = monotonic() + PAUSE_S > deadline
            created = await _try_create(api, body, is_last=is_last)
            if created is None:
                await backoff.wait()
        yield body, created


async def _try_create(api: Api, body: Object, *, is_last: bool) -> bool | None:
    """Return None if the creation must be retried, False if the object exists.

    Raises ApiRejected, and ApiUnavailable instead of a retry if ``is_last``.
    """
    try:
        await api.create(collection_of(body), body)
    except ApiConflict:
        return False
    except ApiRejected:
        raise
    except ApiError as error:
        if is_last:
            name = f"{body['kind']}/{body['metadata']['name']}"
            raise ApiUnavailable(
                f"{name} could not be created within {CREATE_S_MAX:g} s: {error}",
                subject=name,
                remedy="wait until a controller is ready and its webhooks respond, then retry",
            ) from None
        level = logging.INFO if isinstance(error, ApiUnavailable) else logging.WARNING
        _log.log(level, "the creation failed and will be retried: %s", error)
        return None
    return True
