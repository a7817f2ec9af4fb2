"""Waiting for the objects of a new cluster has a limit."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from core.errors import ApiUnavailable, BadInput
from core.kubernetes.api import Api
from core.kubernetes.connection import open_connection
from ops.kubernetes import defaults
from ops.kubernetes.defaults import CREATE_S_MAX, OBJECTS_MAX, create_all, read_objects
from tests.kubernetes.objects import pool

NOBODY = {
    "apiVersion": "v1",
    "kind": "Config",
    "current-context": "none",
    "contexts": [{"name": "none", "context": {"cluster": "none", "user": "none"}}],
    "clusters": [{"name": "none", "cluster": {"server": "http://127.0.0.1:9"}}],
    "users": [{"name": "none", "user": {}}],
}


async def test_an_api_server_that_never_answers_ends_the_run_with_what_to_look_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(defaults, "PAUSE_S", 0.0)
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(yaml.safe_dump(NOBODY))
    api = Api(await open_connection(str(kubeconfig)))
    moments = iter((0.0, 1.0, CREATE_S_MAX, CREATE_S_MAX + 1))

    with pytest.raises(ApiUnavailable, match="could not be created within 240 s") as caught:
        _ = [one async for one in create_all(api, [pool()], lambda: next(moments))]

    assert caught.value.subject == "SpiderIPPool/blue"
    assert "a controller is ready" in caught.value.remedy
    assert list(moments) == [], "the last try was made at the end of its time"
    await api.close()


def test_a_file_of_too_many_objects_is_refused_by_its_name() -> None:
    text = "---\n".join([yaml.safe_dump(pool())] * (OBJECTS_MAX + 1))

    with pytest.raises(BadInput, match="more than 1000") as caught:
        read_objects(text, "objects.yaml")

    assert caught.value.subject == "objects.yaml"
