"""The help texts of the known RDMA counters."""

from __future__ import annotations

from typing import Final

UNKNOWN_COUNTER_HELP: Final = "A counter of the kernel or of the driver, under its own name"

HELP_TEXTS: Final[dict[str, str]] = {
    "rx_write_requests": "Write requests received",
    "rx_read_requests": "Read requests received",
    "rx_atomic_requests": "Atomic requests received",
    "rx_dct_connect": "Connection requests received by dynamic targets",
    "out_of_buffer": "Packets dropped because no receive buffer was posted",
    "out_of_sequence": "Packets received out of order",
    "duplicate_request": "Duplicate requests received; each had been served already",
    "rnr_nak_retry_err": "RNR NAKs received (receiver not ready) within the number of retries",
    "packet_seq_err": "NAKs received for a packet out of order",
    "implied_nak_seq_err": "Missing responses detected by a later acknowledgement",
    "local_ack_timeout_err": "Acknowledgements that did not arrive before the timeout",
    "resp_local_length_error": "Requests received with a wrong length",
    "resp_cqe_error": "Receive completions with an error",
    "req_cqe_error": "Request completions with an error",
    "req_remote_invalid_request": "Requests that the remote side rejected as invalid",
    "req_remote_access_errors": "Requests that the remote side rejected for lack of access rights",
    "resp_remote_access_errors": "Requests received that were rejected for lack of access rights",
    "resp_cqe_flush_error": "Receive completions that were flushed",
    "req_cqe_flush_error": "Request completions that were flushed",
    "roce_adp_retrans": "Adaptive retransmissions",
    "roce_adp_retrans_to": "Adaptive retransmissions that timed out",
    "roce_slow_restart": "Slow restarts",
    "roce_slow_restart_cnps": "Congestion notifications sent by slow restarts",
    "roce_slow_restart_trans": "Changes of state to slow restart",
    "rp_cnp_ignored": "Congestion notifications received and ignored",
    "rp_cnp_handled": "Congestion notifications received that slowed a sender down",
    "np_ecn_marked_roce_packets": "Packets received that were marked as congested",
    "np_cnp_sent": "Congestion notifications sent",
    "rx_icrc_encapsulated": "Packets received with a wrong invariant checksum",
    **{
        f"{direction}_vport_rdma_{cast}_{unit}": f"RDMA's {cast} {unit} {verb}"
        for direction, verb in (("rx", "received"), ("tx", "sent"))
        for cast in ("unicast", "multicast")
        for unit in ("packets", "bytes")
    },
    "vport_speed_mbps": "Speed of the link in Mbit/s",
    "rx_discards": "Received packets discarded because no buffer was free, by priority",
    "tx_discards": "Packets discarded on transmission, by priority",
    "rx_pause": "Pause frames received, by priority",
    "tx_pause": "Pause frames sent, by priority",
    "device_tos": "Traffic class of the device's packets; 0: none is set",
}
