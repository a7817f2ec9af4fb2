"""What a new cluster begins with: objects of a file, each made unless one of its name is there.

An object that is there stays as its owner has it. Webhooks answer a moment after the installation,
so what cannot be asked yet is tried again, within a bound; a refusal by a rule is told and ends the
run.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Final

import yaml

from core.errors import ApiConflict, ApiError, ApiRejected, ApiUnavailable, BadInput
from core.kubernetes.api import Api, Object
from core.manifests.crds.definitions import KINDS
from core.manifests.kinds.fields import API_VERSION

OBJECTS_MAX: Final = 1_000
"""In one file."""

MAKE_S_MAX: Final = 240.0
"""For all of them: with one request's deadline on top below the 300 s that the chart's Job has."""

PAUSE_S: Final = 2.0

_log: Final = logging.getLogger(__name__)


def read_objects(text: str, path: str) -> list[Object]:
    """The documents of a file. Raises BadInput."""
    try:
        found = [one for one in yaml.safe_load_all(text) if one is not None]
    except yaml.YAMLError as error:
        raise BadInput(f"{path} is not YAML: {error}", subject=path) from None
    if len(found) > OBJECTS_MAX:
        raise BadInput(
            f"{path} has {len(found)} objects, more than {OBJECTS_MAX}",
            subject=path,
            remedy="put only default objects here; apply others with kubectl",
        )
    for one in found:
        collection_of(one)
    return found


def collection_of(one: Object) -> str:
    """Where objects of its kind are. Raises BadInput."""
    kind = next((kind for kind in KINDS if kind.name == one.get("kind")), None)
    if kind is None or one.get("apiVersion") != API_VERSION:
        raise BadInput(f"{one.get('kind')} is none of {API_VERSION}", subject="kind")
    namespace = one["metadata"].get("namespace", "default")
    within = f"/namespaces/{namespace}" if kind.namespaced else ""
    return f"/apis/{API_VERSION}{within}/{kind.plural}"


async def make_all(
    api: Api, objects: Sequence[Object], monotonic: Callable[[], float] = time.monotonic
) -> AsyncIterator[tuple[Object, bool]]:
    """Each object, and whether it was made: False for one that was there.

    Raises ApiRejected, and ApiUnavailable after ``MAKE_S_MAX``.
    """
    deadline = monotonic() + MAKE_S_MAX
    for one in objects:
        while True:
            made = await _try(api, one, is_last=monotonic() + PAUSE_S > deadline)
            if made is not None:
                break
            await asyncio.sleep(PAUSE_S)
        yield one, made


async def _try(api: Api, one: Object, *, is_last: bool) -> bool | None:
    """Whether it was made; None: not yet. Raises ApiRejected, on the last try ApiUnavailable."""
    try:
        await api.create(collection_of(one), one)
    except ApiConflict:
        return False
    except ApiRejected:
        raise
    except ApiError as error:
        if is_last:
            name = f"{one['kind']}/{one['metadata']['name']}"
            raise ApiUnavailable(
                f"{name} could not be made within {MAKE_S_MAX:g} s: {error}",
                subject=name,
                remedy="see that a controller is ready, for its webhook has to answer; then again",
            ) from None
        level = logging.INFO if isinstance(error, ApiUnavailable) else logging.WARNING
        _log.log(level, "not yet: %s", error)
        return None
    return True
