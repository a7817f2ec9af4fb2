"""Plans of ``orbctl migrate check``, from facts, compared with golden files."""

from __future__ import annotations

import pytest

from ops.migration.facts import Facts
from ops.migration.plan import MigrationDeadline, plan_migration
from ops.migration.values import translate
from tests.chart.rendering import render
from tests.ops.migration.example_facts import (
    AGENT_WORKLOAD,
    EXAMPLE_FACTS,
    GOLDEN_FOLDER,
    SMALL_CLUSTER,
    planned,
    released,
    with_multus,
)


@pytest.mark.parametrize("name", EXAMPLE_FACTS)
def test_a_plan_is_that_of_its_golden_file(name: str) -> None:
    assert planned(EXAMPLE_FACTS[name]) == (GOLDEN_FOLDER / f"{name}.yaml").read_text()


def test_every_golden_file_has_its_case() -> None:
    assert {path.stem for path in GOLDEN_FOLDER.iterdir()} == set(EXAMPLE_FACTS)


def test_only_a_cluster_without_spiderpool_has_no_plan() -> None:
    bare = SMALL_CLUSTER._replace(release=None, workloads=(), definitions=())

    assert plan_migration(bare) is None


def test_a_cluster_with_our_agents_alone_has_no_plan() -> None:
    only_definitions = SMALL_CLUSTER._replace(release=None, workloads=())
    image = {"agent": "registry.example.com/orbweaver-agent:0.1.0"}
    agent = AGENT_WORKLOAD._replace(namespace="orbweaver", name="orbweaver-agent", containers=image)

    assert plan_migration(only_definitions) is not None
    assert plan_migration(only_definitions._replace(workloads=(agent,))) is None


def test_multus_in_the_agents_must_move_before_the_switch() -> None:
    plan_with_multus, plan_without_multus = (
        plan_migration(with_multus()),
        plan_migration(SMALL_CLUSTER),
    )

    assert plan_with_multus is not None
    assert plan_without_multus is not None
    due_findings = plan_with_multus.due(MigrationDeadline.BEFORE_SWITCH)
    assert [finding.subject for finding in due_findings] == [
        "Multus in DaemonSet spiderpool/spiderpool-agent"
    ]
    assert plan_without_multus.is_ready


@pytest.mark.parametrize("facts", EXAMPLE_FACTS.values(), ids=EXAMPLE_FACTS)
def test_translated_values_are_accepted_by_the_chart(facts: Facts) -> None:
    if facts.release is not None:
        assert render(translate(facts.release) | {"orbweaver": {"standby": True}})


def test_the_default_network_stays_that_of_spiderpools_namespace() -> None:
    named = translate(released(multus={"multusCNI": {"defaultCniCRName": "lan"}}))
    placed = translate(released(multus={"multusCNI": {"defaultCniCRName": "kube-system/lan"}}))

    assert named["multus"]["multusCNI"]["defaultCniCRName"] == "spiderpool/lan"
    assert placed["multus"]["multusCNI"]["defaultCniCRName"] == "kube-system/lan"
