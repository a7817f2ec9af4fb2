"""The Prometheus text of RDMA counters has the names and labels of docs/reference/metrics.md."""

from __future__ import annotations

from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from core.domain.model import Owner
from nodeagent.rdma import counter_samples
from nodeagent.rdma.counter_help import HELP_TEXTS
from nodeagent.rdma.counter_reader import guid_of
from nodeagent.rdma.counter_samples import counter_name, guid_text, samples_of, text_of
from nodeagent.rdma.rdma_ports import NamespacePorts, RdmaPod, RdmaPortLink

GOLDEN = Path(__file__).with_name("scrape.txt")
CARD_GUID = 0x506B4B0300AABBCC
VF_GUID = 0x0211223344556677

PF = RdmaPortLink(
    "mlx5_0",
    "ens1f0",
    node_guid=CARD_GUID,
    system_guid=CARD_GUID,
    counters={"rx_write_requests": 7, "np_cnp_sent": 0, "respNewError": 1},
    statistics={
        "rx_vport_rdma_unicast_bytes": 1 << 40,
        "rx_prio3_pause": 5,
        "tx_prio3_pause": 6,
        "rx_prio10_discards": 8,
        "rx_prio3_pause_duration": 9,
        "rx_packets": 10,
    },
    speed_mbps=100_000,
    traffic_class=106,
)
VF = RdmaPortLink(
    "mlx5_4",
    "net1",
    node_guid=VF_GUID,
    system_guid=CARD_GUID,
    counters={"rx_write_requests": 3},
    parent="ens1f0",
)
JOB = Owner("PyTorchJob", "train", "shop", "kubeflow.org/v1")
NAMESPACE_PORTS = (
    NamespacePorts((PF,)),
    NamespacePorts((VF,), "10.6.0.17"),
    NamespacePorts((VF._replace(device="mlx5_5"),), "10.6.0.18"),
)
PODS = {
    "10.6.0.17": RdmaPod("shop", "train-0", JOB),
    "10.6.0.18": RdmaPod("shop", "alone"),
}


def test_the_text_of_a_card_and_its_pods_equals_the_golden_file() -> None:
    text = text_of(samples_of("node-1", NAMESPACE_PORTS, PODS)).decode()

    assert text == GOLDEN.read_text()


def test_every_metric_name_begins_with_rdma_and_ends_with_total() -> None:
    text = text_of(samples_of("node-1", NAMESPACE_PORTS, PODS)).decode()

    families = text_string_to_metric_families(text)
    names = {sample.name for family in families for sample in family.samples}
    # Spiderpool's gauges end with "_total" too.
    assert "rdma_device_tos_total" in names
    assert {name for name in names if not name.startswith("rdma_")} == set()
    assert {name for name in names if not name.endswith("_total")} == set()


def test_a_known_counter_has_a_help_text() -> None:
    text = text_of(samples_of("node-1", NAMESPACE_PORTS, PODS)).decode()

    assert f"# HELP rdma_rx_write_requests_total {HELP_TEXTS['rx_write_requests']}\n" in text


def test_ports_of_an_unknown_pod_have_no_pod_labels() -> None:
    result = samples_of("node-1", NAMESPACE_PORTS, {})

    assert result.values
    assert b"pod_" not in text_of(result)
    assert b"owner_" not in text_of(result)


def test_counters_with_the_same_metric_name_become_one_series() -> None:
    port = RdmaPortLink(
        "mlx5_0", "ens1f0", CARD_GUID, CARD_GUID, {"outOfBuffer": 1, "out_of_buffer": 2}
    )

    found = samples_of("node-1", [NamespacePorts((port, port))], {})

    (values,) = found.values.values()
    assert list(values.values()) == [2], "the last value is used"


def test_samples_above_the_limit_are_left_out_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counter_samples, "SAMPLES_MAX", 3)
    port = RdmaPortLink(
        "mlx5_0", "ens1f0", CARD_GUID, CARD_GUID, {f"c{number}": number for number in range(5)}
    )

    found = samples_of("node-1", [NamespacePorts((port,))], {})

    assert (sum(map(len, found.values.values())), found.left_out) == (3, 2)


def test_quotes_in_labels_and_64_bit_counters_are_preserved() -> None:
    device_name = 'a "b" \\ c'
    port = RdmaPortLink(device_name, "ens1f0", CARD_GUID, CARD_GUID, {"bytes": (1 << 64) - 1})

    text = text_of(samples_of("node-1", [NamespacePorts((port,))], {})).decode()

    (family,) = text_string_to_metric_families(text)
    (sample,) = family.samples
    assert sample.labels["ifname"] == device_name
    assert text.endswith(f" {(1 << 64) - 1}\n")


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("rx_write_requests", "rx_write_requests"),
        ("outOfSequence", "out_of_sequence"),
        ("tx vport-rdma.bytes", "tx_vport_rdma_bytes"),
        ("a" * 200, "a" * 96),
    ],
)
def test_counter_names_become_valid_metric_names(key: str, name: str) -> None:
    assert counter_name(key) == name


def test_a_guid_is_formatted_in_eight_bytes() -> None:
    assert guid_text(CARD_GUID) == "50:6b:4b:03:00:aa:bb:cc"


def test_a_guid_is_derived_from_an_ethernet_or_infiniband_address() -> None:
    assert guid_of(bytes.fromhex("506b4baabbcc")) == 0x506B4BFFFEAABBCC
    assert guid_of(bytes(12) + CARD_GUID.to_bytes(8, "big")) == CARD_GUID
