"""The BPF programs as text, and the assembler that encodes them.

Each file in ``programs`` is the text of one program. To rewrite the files run the test with
REWRITE_PLANS=1.

The programs ignore sockets of the network namespace whose cookie is ``skipped_netns``. The value 0
skips no namespace.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import pytest

from nodeagent.clusterip import map_layout
from nodeagent.clusterip.bpf_programs import (
    ATTEMPTS_MAX,
    PROGRAM_HOOKS,
    DesiredPrograms,
    Hook,
    program,
)
from nodeagent.ebpf import numbers as n
from nodeagent.ebpf.instructions import (
    INSTRUCTIONS_MAX,
    Instruction,
    Label,
    Line,
    Register,
    Size,
    assemble,
    call,
    compute,
    copy,
    jump,
    jump_if,
    leave,
    load,
    load_map,
    load_wide,
    put,
    store,
)
from tests.support.parts import LITTLE_ENDIAN, needs

PROGRAMS: Final = Path(__file__).parent / "programs"
MAPS: Final = {spec.name: descriptor for descriptor, spec in enumerate(map_layout.MAPS, 3)}
"""Name of a map -> a sample file descriptor."""

little_endian_only = pytest.mark.skipif(sys.byteorder != "little", reason=needs(LITTLE_ENDIAN))


def disassemble(lines: Sequence[Line]) -> str:
    return "".join(
        f"{line.name}:\n" if isinstance(line, Label) else f"    {line.text}\n" for line in lines
    )


@little_endian_only
@pytest.mark.parametrize("hook", PROGRAM_HOOKS, ids=lambda hook: hook.name)
def test_the_text_of_a_program_is_equal_to_its_file(hook: Hook) -> None:
    text = disassemble(program(hook, DesiredPrograms(skipped_netns=0x1234)))
    path = PROGRAMS / f"{hook.name}.txt"
    if os.environ.get("REWRITE_PLANS"):
        path.write_text(text)
    assert path.read_text() == text


@pytest.mark.parametrize("hook", PROGRAM_HOOKS, ids=lambda hook: hook.name)
@pytest.mark.parametrize(
    "desired",
    [
        DesiredPrograms(skipped_netns=0),
        DesiredPrograms(skipped_netns=1 << 63),
        DesiredPrograms(skipped_netns=5, econnrefused=False),
    ],
)
def test_every_program_can_be_assembled(hook: Hook, desired: DesiredPrograms) -> None:
    lines = program(hook, desired)
    slots = sum(line.slots for line in lines if isinstance(line, Instruction))
    assert len(assemble(lines, MAPS)) == slots * 8


def test_programs_of_both_families_use_the_same_frontend_key() -> None:
    connect4, connect6 = (
        disassemble(program(hook, DesiredPrograms(skipped_netns=0))) for hook in PROGRAM_HOOKS[:2]
    )
    # An IPv6 socket finds an IPv4 Service by the mapped address.
    lookup_of_frontend = "r2 += -24\n    call map_lookup_elem"
    assert connect4.count(lookup_of_frontend) == ATTEMPTS_MAX
    assert connect6.count(lookup_of_frontend) == ATTEMPTS_MAX


@little_endian_only
@pytest.mark.parametrize(
    ("instruction", "expected"),
    [
        (put(Register.R0, 1), "b700000001000000"),
        (copy(Register.R6, Register.R1), "bf16000000000000"),
        (compute(n.BPF_ADD, Register.R2, -24), "07020000e8ffffff"),
        (load(Size.WORD, Register.R1, Register.R6, 24), "6161180000000000"),
        (store(Size.HALF, Register.FP, -8, Register.R1), "6b1af8ff00000000"),
        (call(1, "map_lookup_elem"), "8500000001000000"),
        (leave(), "9500000000000000"),
        (load_wide(Register.R1, 0xFFFFFFFF00000002), "180100000200000000000000ffffffff"),
        (load_map(Register.R1, "services"), "18110000030000000000000000000000"),
    ],
)
def test_an_instruction_has_the_bytes_that_rfc_9669_defines(
    instruction: Instruction, expected: str
) -> None:
    assert assemble([instruction], MAPS).hex() == expected


@little_endian_only
def test_jump_offsets_count_slots_from_the_next_instruction() -> None:
    lines: list[Line] = [
        Label("first"),
        jump_if(n.BPF_JEQ, Register.R0, 0, "last"),
        load_wide(Register.R1, 7),
        jump("first"),
        Label("last"),
        leave(),
    ]
    code = assemble(lines, {})
    assert code[:8].hex() == "1500030000000000"
    assert code[24:32].hex() == "0500fcff00000000"


def test_the_assembler_rejects_a_program_that_it_cannot_encode() -> None:
    with pytest.raises(ValueError, match="no label nowhere"):
        assemble([jump("nowhere")], {})
    with pytest.raises(ValueError, match="twice"):
        assemble([Label("a"), Label("a")], {})
    with pytest.raises(ValueError, match="does not fit 16 bits"):
        assemble([load(Size.WORD, Register.R1, Register.R1, 1 << 15)], {})
    with pytest.raises(ValueError, match="more than"):
        assemble([leave()] * (INSTRUCTIONS_MAX + 1), {})
    with pytest.raises(KeyError):
        assemble([load_map(Register.R1, "none")], {})
