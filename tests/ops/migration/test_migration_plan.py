"""``orbctl migrate check`` plans the migration of a cluster from Spiderpool to Orbweaver."""

from __future__ import annotations

import pytest

from ops.migration.chart_values import translate
from ops.migration.facts import Facts
from ops.migration.migration_plan import MigrationDeadline, plan_migration
from tests.chart.rendering import render_templates
from tests.ops.migration.example_facts import (
    AGENT_WORKLOAD,
    EXAMPLE_FACTS,
    GOLDEN_FOLDER,
    SMALL_CLUSTER,
    facts_with_multus,
    plan_as_yaml,
    release_with_values,
)


@pytest.mark.parametrize("name", EXAMPLE_FACTS)
def test_a_plan_equals_its_golden_file(name: str) -> None:
    assert plan_as_yaml(EXAMPLE_FACTS[name]) == (GOLDEN_FOLDER / f"{name}.yaml").read_text()


def test_every_golden_file_has_example_facts() -> None:
    assert {path.stem for path in GOLDEN_FOLDER.iterdir()} == set(EXAMPLE_FACTS)


def test_a_cluster_without_any_part_of_spiderpool_has_no_plan() -> None:
    # ``definitions`` has the names of CRDs.
    without_spiderpool = SMALL_CLUSTER._replace(release=None, workloads=(), definitions=())

    assert plan_migration(without_spiderpool) is None


def test_a_cluster_with_spiderpools_crds_has_a_plan_unless_orbweaver_runs() -> None:
    only_crds = SMALL_CLUSTER._replace(release=None, workloads=())
    image = {"agent": "registry.example.com/orbweaver-agent:0.1.0"}
    agent = AGENT_WORKLOAD._replace(namespace="orbweaver", name="orbweaver-agent", containers=image)

    assert plan_migration(only_crds) is not None
    # Orbweaver uses the same CRDs.
    assert plan_migration(only_crds._replace(workloads=(agent,))) is None


def test_multus_in_the_agents_must_move_before_the_switch() -> None:
    plan_with_multus, plan_without_multus = (
        plan_migration(facts_with_multus()),
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
def test_the_chart_accepts_translated_values(facts: Facts) -> None:
    if facts.release is not None:
        assert render_templates(translate(facts.release) | {"orbweaver": {"standby": True}})


@pytest.mark.parametrize(
    ("spiderpool_network", "translated"),
    [("lan", "spiderpool/lan"), ("kube-system/lan", "kube-system/lan")],
)
def test_a_default_network_without_a_namespace_gets_the_namespace_of_spiderpools_release(
    spiderpool_network: str, translated: str
) -> None:
    release = release_with_values(multus={"multusCNI": {"defaultCniCRName": spiderpool_network}})

    assert translate(release)["multus"]["multusCNI"]["defaultCniCRName"] == translated
