"""What a new cluster begins with: objects of a file, each made unless one of its name is there.

An object that is there stays as its owner has it. Webhooks answer a moment after the installation,
so what cannot be asked yet is tried again; a refusal by a rule is told and ends the run.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Final

import yaml

from core.errors import ApiConflict, ApiError, ApiRejected, ApiUnavailable, BadInput
from core.kubernetes.api import Api, Object
from core.manifests.crds.definitions import KINDS
from core.manifests.kinds.fields import API_VERSION

PAUSE_S: Final = 2.0

_log: Final = logging.getLogger(__name__)


def read_objects(text: str, path: str) -> list[Object]:
    """The documents of a file. Raises BadInput."""
    try:
        found = [one for one in yaml.safe_load_all(text) if one is not None]
    except yaml.YAMLError as error:
        raise BadInput(f"{path} is not YAML: {error}", subject=path) from None
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


async def make(api: Api, one: Object) -> bool:
    """Make it, however long that takes; False when it was there. Raises ApiRejected."""
    while True:
        try:
            await api.create(collection_of(one), one)
        except ApiConflict:
            return False
        except ApiRejected:
            raise
        except ApiUnavailable as error:
            _log.info("not yet: %s", error)
        except ApiError as error:
            _log.warning("not yet: %s", error)
        else:
            return True
        await asyncio.sleep(PAUSE_S)
