"""The creation of default objects ends after a time limit; a file has a maximum of objects."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from core.errors import ApiUnavailable, BadInput
from core.kubernetes.api_client import Api
from core.kubernetes.http_connection import open_connection
from ops.kubernetes import default_objects
from ops.kubernetes.default_objects import CREATE_S_MAX, OBJECTS_MAX, create_all, read_objects
from tests.kubernetes.objects import pool

UNREACHABLE_KUBECONFIG = {
    "apiVersion": "v1",
    "kind": "Config",
    "current-context": "none",
    "contexts": [{"name": "none", "context": {"cluster": "none", "user": "none"}}],
    "clusters": [{"name": "none", "cluster": {"server": "http://127.0.0.1:9"}}],
    "users": [{"name": "none", "user": {}}],
}


async def test_creating_defaults_fails_with_a_remedy_when_the_api_server_never_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(default_objects, "PAUSE_S", 0.0)
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(yaml.safe_dump(UNREACHABLE_KUBECONFIG))
    api = Api(await open_connection(str(kubeconfig)))
    # The clock passes the limit at its fourth reading, without any waiting.
    clock_readings = iter((0.0, 1.0, CREATE_S_MAX, CREATE_S_MAX + 1))

    with pytest.raises(ApiUnavailable, match="could not be created within 240 s") as caught:
        async for _ in create_all(api, [pool()], lambda: next(clock_readings)):
            pass

    assert caught.value.subject == "SpiderIPPool/blue"
    assert "a controller is ready" in caught.value.remedy
    assert list(clock_readings) == [], "the creation must be tried until the time limit"
    await api.close()


def test_the_refusal_of_a_file_with_too_many_objects_names_the_file() -> None:
    text = "---\n".join([yaml.safe_dump(pool())] * (OBJECTS_MAX + 1))

    with pytest.raises(BadInput, match="more than 1000") as caught:
        read_objects(text, "objects.yaml")

    assert caught.value.subject == "objects.yaml"


@pytest.mark.parametrize(
    "document",
    [
        "text",
        ["a", "list"],
        {key: value for key, value in pool().items() if key != "metadata"},
        pool() | {"metadata": "text"},
        pool() | {"metadata": {}},
    ],
)
def test_a_file_of_defaults_with_a_nameless_object_is_refused(document: object) -> None:
    text = yaml.safe_dump_all([pool(), document])

    with pytest.raises(BadInput, match=r"document 2 of objects\.yaml .* metadata\.name") as caught:
        read_objects(text, "objects.yaml")

    assert caught.value.subject == "objects.yaml"
