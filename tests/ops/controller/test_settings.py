"""The settings of a controller."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.allocation.provider_settings import ProviderSettings
from core.archive.pruner import ARCHIVE_BYTES_MAX, Retention
from core.domain.autopools.pool_size import AutoPoolSettings, IpNumber
from core.domain.reclaim.settings import ReclaimSettings
from core.errors import BadInput
from ops.controller.settings import load_settings
from ops.kubernetes.settings import KubernetesSettings

NO_FILE = "/nonexistent/conf.yml"


def test_the_default_settings_use_the_local_etcd() -> None:
    settings = load_settings(NO_FILE, {"SPIDERPOOL_POD_NAME": "c-1"})

    assert settings.name == "c-1"
    assert settings.cluster.etcd.endpoints == ("127.0.0.1:2379",)
    assert (settings.health_port, settings.metrics_port) == (5720, 5721)
    assert not settings.metrics_enabled


def test_an_environment_variable_overrides_conf_yml(tmp_path: Path) -> None:
    conf = tmp_path / "conf.yml"
    conf.write_text("orbweaver: {cluster: green, etcd: {endpoints: ['a:1', 'b:2']}}")

    from_file = load_settings(str(conf), {})
    from_both = load_settings(str(conf), {"ORBWEAVER_ETCD_ENDPOINTS": "c:3"})

    assert from_file.cluster.etcd.endpoints == ("a:1", "b:2")
    assert (from_both.cluster.cluster, from_both.cluster.etcd.endpoints) == ("green", ("c:3",))


def test_conf_yml_sets_the_network_provider_and_a_timeout_up_to_100_s(
    tmp_path: Path,
) -> None:
    conf = tmp_path / "conf.yml"
    conf.write_text(
        "iaasNetworkProvider: {serverUrl: 'https://iaas:8443', httpRequestTimeout: 30s}\n"
        "orbweaver: {providerVerifyTls: false}"
    )

    assert load_settings(str(conf), {}).provider == ProviderSettings(
        "https://iaas:8443", 30.0, verify_tls=False
    )
    assert load_settings(NO_FILE, {}).provider is None
    conf.write_text("iaasNetworkProvider: {serverUrl: 'https://iaas:8443', httpRequestTimeout: 2m}")
    with pytest.raises(BadInput, match="not between 0 and 100 s"):
        load_settings(str(conf), {})


def test_the_cool_down_can_be_set_and_is_zero_for_the_sequential_order() -> None:
    assert load_settings(NO_FILE, {}).cool_down_s == 30
    assert load_settings(NO_FILE, {"ORBWEAVER_COOL_DOWN_SECONDS": "5"}).cool_down_s == 5
    # Users of the sequential order expect the lowest free address, even if it was just released.
    assert load_settings(NO_FILE, {"ORBWEAVER_ADDRESS_ORDER": "sequential"}).cool_down_s == 0


def test_a_lease_ttl_of_zero_becomes_the_minimum_of_etcd() -> None:
    assert load_settings(NO_FILE, {"ORBWEAVER_LEASE_TTL_SECONDS": "0"}).lease_ttl_s == 2


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("SPIDERPOOL_HEALTH_PORT", "many"),
        ("SPIDERPOOL_POD_NAME", "no/name"),
        ("SPIDERPOOL_LOG_LEVEL", "loud"),
        ("ORBWEAVER_ETCD_CERT_FILE", "alone"),
        ("ORBWEAVER_ETCD_CA_FILE", "/nonexistent/ca"),
        ("ORBWEAVER_ETCD_ENDPOINTS", "a:1,,b:2"),
        ("ORBWEAVER_CLUSTER", "a/b"),
        ("ORBWEAVER_ADDRESS_ORDER", "random"),
    ],
)
def test_an_invalid_setting_is_refused(variable: str, value: str) -> None:
    with pytest.raises(BadInput) as refused:
        load_settings(NO_FILE, {variable: value})

    assert refused.value.subject == variable


def test_a_user_without_a_password_is_refused() -> None:
    with pytest.raises(BadInput) as refused:
        load_settings(NO_FILE, {"ORBWEAVER_ETCD_USER": "root"})

    assert refused.value.subject == "orbweaver.etcd.passwordFile"


def test_the_error_names_the_key_of_conf_yml_if_no_variable_is_set(tmp_path: Path) -> None:
    conf = tmp_path / "conf.yml"
    for text, key in (
        ("orbweaver: {cluster: a/b}", "orbweaver.cluster"),
        ("orbweaver: {etcd: {caFile: /absent}}", "orbweaver.etcd.caFile"),
    ):
        conf.write_text(text)
        with pytest.raises(BadInput) as refused:
            load_settings(str(conf), {})
        assert refused.value.subject == key


def test_kubernetes_is_off_by_default() -> None:
    def configured(**variables: str) -> KubernetesSettings | None:
        return load_settings(NO_FILE, variables).kubernetes

    assert configured() is None
    assert configured(ORBWEAVER_KUBERNETES="false") is None
    assert configured(ORBWEAVER_KUBERNETES="true") == KubernetesSettings("")
    assert configured(ORBWEAVER_KUBECONFIG="/etc/kube") == KubernetesSettings("/etc/kube")


def test_a_password_is_read_from_a_file_and_hidden_in_the_repr(tmp_path: Path) -> None:
    secret = tmp_path / "password"
    secret.write_text("hunter2\n")
    variables = {"ORBWEAVER_ETCD_USER": "c", "ORBWEAVER_ETCD_PASSWORD_FILE": str(secret)}

    settings = load_settings(NO_FILE, variables)

    assert settings.cluster.etcd.password == "hunter2"
    assert "hunter2" not in repr(settings)


def test_the_archive_has_a_size_limit_by_default() -> None:
    assert load_settings(NO_FILE, {}).retention == Retention(0.0, ARCHIVE_BYTES_MAX)

    configured = {"ORBWEAVER_ARCHIVE_DAYS": "400", "ORBWEAVER_ARCHIVE_MEBIBYTES": "10"}

    assert load_settings(NO_FILE, configured).retention == Retention(400 * 86_400.0, 10 << 20)


async def test_variables_of_spiderpool_configure_reclaim() -> None:
    settings = load_settings(
        NO_FILE,
        {"SPIDERPOOL_GC_DEFAULT_INTERVAL_DURATION": "60", "SPIDERPOOL_GC_IP_ENABLED": "false"},
    )

    assert settings.reclaim == ReclaimSettings(enabled=False, scan_interval_s=60.0)


def test_conf_yml_configures_the_reclaim_of_fixed_addresses_and_outdated_endpoints(
    tmp_path: Path,
) -> None:
    conf = tmp_path / "conf.yml"
    conf.write_text("enableStatefulSet: false\nenableCleanOutdatedEndpoint: true\n")

    settings = load_settings(str(conf), {})

    assert settings.reclaim == ReclaimSettings(stateful_sets=False, outdated_endpoints=True)


def test_conf_yml_configures_automatic_pools(
    tmp_path: Path,
) -> None:
    conf = tmp_path / "conf.yml"
    conf.write_text("enableSpiderSubnet: true\nclusterSubnetDefaultFlexibleIPNumber: 1\n")
    off = tmp_path / "off.yml"
    off.write_text("enableAutoPoolForApplication: false\n")

    settings = load_settings(str(conf), {})

    assert settings.auto_pools == AutoPoolSettings(default_number=IpNumber(1, is_flexible=True))
    assert not load_settings(str(off), {}).auto_pools.enabled


def test_the_console_is_off_by_default_and_its_authentication_is_checked() -> None:
    variables = {"SPIDERPOOL_POD_NAME": "c-1"}
    assert load_settings(NO_FILE, variables).console is None

    variables["ORBWEAVER_CONSOLE_ENABLED"] = "true"
    console = load_settings(NO_FILE, variables).console
    assert console is not None
    assert (console.address, console.port, console.auth) == ("127.0.0.1", 5723, "token-review")

    with pytest.raises(BadInput, match="'guess' is neither token-review nor none"):
        load_settings(NO_FILE, variables | {"ORBWEAVER_CONSOLE_AUTH": "guess"})
