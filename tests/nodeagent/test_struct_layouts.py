"""A C compiler checks that formats of packed structures have the layout of the kernel's headers."""

from __future__ import annotations

import re
import shutil
import struct
import subprocess
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from nodeagent.conflict_detection import packet_socket
from nodeagent.ebpf import calls, instructions, numbers
from nodeagent.netlink import codec, dcb, ethtool, nftables, requests, session
from nodeagent.servers import unix_sockets
from tests.support.parts import ARM64, needs

ARM64_COMPILER = "aarch64-linux-gnu-gcc"
HEADERS = (
    "linux/netlink.h",
    "linux/rtnetlink.h",
    "linux/neighbour.h",
    "linux/fib_rules.h",
    "linux/netfilter/nfnetlink.h",
    "linux/if.h",
    "linux/ethtool.h",
    "linux/if_packet.h",
    "linux/dcbnl.h",
    "linux/bpf.h",
    "asm/unistd.h",
)
UCRED = "struct ucred { int pid, uid, gid; };\n"
"""Copied from unix(7), because libc's header conflicts with the kernel's headers."""

CODE = re.compile(r"(\d*)([a-zA-Z])")


class Layout(NamedTuple):
    """A format, a C structure (``kind``), and the C field of each format character.

    ``name*`` means that only the start of the field is packed. ``-`` means a bit field: it has no
    offset in C.
    ``whole`` is False if only the start of the structure is packed.
    """

    format: struct.Struct
    kind: str
    fields: str
    whole: bool = True


LAYOUTS = (
    Layout(
        codec.MESSAGE_HEADER,
        "struct nlmsghdr",
        "nlmsg_len nlmsg_type nlmsg_flags nlmsg_seq nlmsg_pid",
    ),
    Layout(codec.ATTRIBUTE, "struct nlattr", "nla_len nla_type"),
    Layout(codec.ATTRIBUTE, "struct rtattr", "rta_len rta_type"),
    Layout(
        requests.IFINFOMSG,
        "struct ifinfomsg",
        "ifi_family ifi_type ifi_index ifi_flags ifi_change",
    ),
    Layout(
        requests.IFADDRMSG,
        "struct ifaddrmsg",
        "ifa_family ifa_prefixlen ifa_flags ifa_scope ifa_index",
    ),
    Layout(
        requests.RTMSG,
        "struct rtmsg",
        "rtm_family rtm_dst_len rtm_src_len rtm_tos"
        " rtm_table rtm_protocol rtm_scope rtm_type rtm_flags",
    ),
    Layout(requests.NDMSG, "struct ndmsg", "ndm_family ndm_ifindex ndm_state ndm_flags ndm_type"),
    Layout(
        requests.FIB_RULE_HDR,
        "struct fib_rule_hdr",
        "family dst_len src_len tos table res1 res2 action flags",
    ),
    Layout(requests.RTNEXTHOP, "struct rtnexthop", "rtnh_len rtnh_flags rtnh_hops rtnh_ifindex"),
    Layout(requests.RTVIA, "struct rtvia", "rtvia_family"),
    Layout(nftables._NFGENMSG, "struct nfgenmsg", "nfgen_family version res_id"),
    Layout(session.IFREQ_INDEX, "struct ifreq", "ifr_name ifr_ifindex"),
    Layout(packet_socket._IFREQ_FLAGS, "struct ifreq", "ifr_name ifr_flags"),
    Layout(
        packet_socket._IFREQ_HARDWARE,
        "struct ifreq",
        "ifr_name ifr_hwaddr.sa_family ifr_hwaddr.sa_data*",
    ),
    Layout(packet_socket._MREQ, "struct packet_mreq", "mr_ifindex mr_type mr_alen mr_address"),
    Layout(ethtool._IFREQ_DATA, "struct ifreq", "ifr_name ifr_data"),
    Layout(
        ethtool._DRVINFO,
        "struct ethtool_drvinfo",
        "cmd driver version fw_version bus_info erom_version"
        " n_priv_flags n_stats testinfo_len eedump_len regdump_len",
    ),
    Layout(ethtool._STRINGS, "struct ethtool_gstrings", "cmd string_set len"),
    Layout(ethtool._STATISTICS, "struct ethtool_stats", "cmd n_stats"),
    Layout(
        ethtool._LINK_SETTINGS,
        "struct ethtool_link_settings",
        "cmd speed link_mode_masks_nwords",
    ),
    Layout(
        ethtool._SSET_INFO,
        "struct ethtool_sset_info",
        "cmd reserved sset_mask data[0]",
        whole=False,
    ),
    Layout(dcb.DCBMSG, "struct dcbmsg", "dcb_family cmd dcb_pad"),
    Layout(dcb.DCB_APP, "struct dcb_app", "selector priority protocol"),
    Layout(
        dcb.IEEE_ETS,
        "struct ieee_ets",
        "willing ets_cap cbs tc_tx_bw tc_rx_bw tc_tsa prio_tc tc_reco_bw tc_reco_tsa reco_prio_tc",
    ),
    Layout(
        dcb.IEEE_PFC,
        "struct ieee_pfc",
        "pfc_cap pfc_en mbc delay "
        + " ".join(f"{name}[{tc}]" for name in ("requests", "indications") for tc in range(8)),
    ),
    Layout(unix_sockets._CREDENTIALS, "struct ucred", "pid uid gid"),
    Layout(instructions.INSTRUCTION, "struct bpf_insn", "code - off imm"),
    Layout(
        calls._MAP_CREATE,
        "union bpf_attr",
        "map_type key_size value_size max_entries map_flags inner_map_fd numa_node map_name",
        whole=False,
    ),
    Layout(calls._ELEMENT, "union bpf_attr", "map_fd key value flags", whole=False),
    Layout(
        calls._PROGRAM,
        "union bpf_attr",
        "prog_type insn_cnt insns license log_level log_size log_buf kern_version prog_flags"
        " prog_name prog_ifindex expected_attach_type",
        whole=False,
    ),
    Layout(calls._OBJECT, "union bpf_attr", "pathname bpf_fd file_flags", whole=False),
    Layout(calls._INFO, "union bpf_attr", "info.bpf_fd info.info_len info.info", whole=False),
    Layout(
        calls._LINK,
        "union bpf_attr",
        "link_create.prog_fd link_create.target_fd link_create.attach_type link_create.flags",
        whole=False,
    ),
    Layout(
        calls._LINK,
        "union bpf_attr",
        "link_update.link_fd link_update.new_prog_fd link_update.flags link_update.old_prog_fd",
        whole=False,
    ),
    Layout(
        calls._LINK_INFO,
        "struct bpf_link_info",
        "type id prog_id cgroup.cgroup_id cgroup.attach_type",
        whole=False,
    ),
)


def offsets_and_sizes(format_: str) -> Iterator[tuple[int, int]]:
    """The offset and size of each format character, except padding."""
    byte_order, codes = format_[0], format_[1:]
    done = byte_order
    for match in CODE.finditer(codes):
        count, code = match.groups()
        fields = [count + code] if code in "sx" else [code] * int(count or 1)
        for field in fields:
            offset = struct.calcsize(done)
            done += field
            if code != "x":
                yield offset, struct.calcsize(done) - offset


def c_conditions(layout: Layout) -> Iterator[str]:
    names = layout.fields.split()
    packed = list(offsets_and_sizes(layout.format.format))
    assert len(names) == len(packed), f"{layout.kind}: expected {len(packed)} fields"
    if layout.whole:
        yield f"sizeof({layout.kind}) == {layout.format.size}"
    for name, (offset, size) in zip(names, packed, strict=True):
        if name == "-":
            continue
        comparison = ">=" if name.endswith("*") else "=="
        field = name.rstrip("*")
        yield f"offsetof({layout.kind}, {field}) == {offset}"
        yield f"sizeof((({layout.kind} *)0)->{field}) {comparison} {size}"


def c_source(layouts: tuple[Layout, ...], processor: str) -> str:
    includes = "".join(f"#include <{name}>\n" for name in HEADERS)
    assertions = [assertion for layout in layouts for assertion in c_conditions(layout)]
    assertions.append(f"__NR_bpf == {numbers.SYSCALLS[processor]}")
    lines = "".join(f'_Static_assert({assertion}, "{assertion}");\n' for assertion in assertions)
    return f"#include <stddef.h>\n{includes}{UCRED}{lines}"


def compile_for(compiler: str, text: str) -> subprocess.CompletedProcess[str]:
    command = [compiler, "-std=gnu11", "-fsyntax-only", "-x", "c", "-"]
    return subprocess.run(command, input=text, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("processor", ["native", "aarch64"])
def test_formats_have_the_layout_of_the_kernels_headers(processor: str) -> None:
    compiler = ARM64_COMPILER if processor == "aarch64" else "gcc"
    if shutil.which(compiler) is None:
        pytest.skip(needs(ARM64, f"no {compiler}"))
    name = platform_of(compiler) if processor == "native" else processor

    done = compile_for(compiler, c_source(LAYOUTS, name))

    assert done.returncode == 0, done.stderr


def platform_of(compiler: str) -> str:
    target = subprocess.run([compiler, "-dumpmachine"], capture_output=True, text=True, check=True)
    return target.stdout.partition("-")[0]


def test_a_format_of_the_wrong_size_fails_the_check() -> None:
    wrong = Layout(
        struct.Struct("=IIIII"),
        "struct nlmsghdr",
        "nlmsg_len nlmsg_type nlmsg_flags nlmsg_seq nlmsg_pid",
    )

    done = compile_for("gcc", c_source((wrong,), platform_of("gcc")))

    assert "sizeof(struct nlmsghdr) == 20" in done.stderr


def test_every_format_for_the_kernel_is_in_layouts() -> None:
    modules = (
        calls,
        codec,
        dcb,
        ethtool,
        instructions,
        nftables,
        packet_socket,
        requests,
        session,
        unix_sockets,
    )
    # Formats of single numbers are not structures.
    numbers_only = {
        "U16",
        "U32",
        "I32",
        "ATTRIBUTE_U32",
        "_BE32",
        "_BE32_SIGNED",
        "_WORDS",
        "_HALVES",
    }
    compared = {id(layout.format) for layout in LAYOUTS}

    missing = [
        f"{module.__name__}.{name}"
        for module in modules
        for name, value in vars(module).items()
        if isinstance(value, struct.Struct)
        and id(value) not in compared
        and name not in numbers_only
    ]

    assert missing == []
