"""eBPF instructions (RFC 9669) as values: a program is a list of instructions and labels. Pure.

Jumps and map accesses use names, so a program can be compared and printed before its maps exist.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from enum import IntEnum
from struct import Struct
from typing import Final, NamedTuple

from nodeagent.ebpf import numbers as n

INSTRUCTION: Final = Struct("=BBhi")
INSTRUCTIONS_MAX: Final = 4_096
"""Every kernel version loads a program of this length."""

_OFFSET_RANGE: Final = range(-(1 << 15), 1 << 15)
_WORDS: Final = Struct("=II")
_HALVES: Final = Struct("=ii")
_WIDE: Final = n.BPF_LD | n.BPF_DW | n.BPF_IMM


class Register(IntEnum):
    """The registers.

    R0: result. R1-R5: arguments, lost in a call. R6-R9: kept in a call. FP: frame pointer.
    """

    R0 = 0
    R1 = 1
    R2 = 2
    R3 = 3
    R4 = 4
    R5 = 5
    R6 = 6
    R7 = 7
    R8 = 8
    R9 = 9
    FP = 10

    def __str__(self) -> str:
        return self.name.lower()


class Size(IntEnum):
    """The size of a load or store, as the kernel encodes it."""

    BYTE = n.BPF_B
    HALF = n.BPF_H
    WORD = n.BPF_W
    DOUBLE = n.BPF_DW


class Instruction(NamedTuple):
    """One instruction. ``text``: for errors. ``target``: a jump's label. ``map``: a map's name."""

    code: int
    text: str
    to: int = 0
    source: int = 0
    offset: int = 0
    number: int = 0
    target: str = ""
    map: str = ""

    @property
    def slots(self) -> int:
        """The size in slots of 8 bytes: two for a 64-bit load, else one."""
        return 2 if self.code == _WIDE else 1


class Label(NamedTuple):
    """A jump target."""

    name: str


Line = Instruction | Label
_SIZE_NAMES: Final = {Size.BYTE: "u8", Size.HALF: "u16", Size.WORD: "u32", Size.DOUBLE: "u64"}
_COMPARISONS: Final = {n.BPF_JEQ: "==", n.BPF_JNE: "!=", n.BPF_JGT: ">"}
_OPERATORS: Final = {
    n.BPF_ADD: "+=",
    n.BPF_SUB: "-=",
    n.BPF_MUL: "*=",
    n.BPF_MOD: "%=",
    n.BPF_MOV: "=",
}


def copy(to: Register, source: Register) -> Instruction:
    """``to = source``."""
    return _of_registers(n.BPF_ALU64, n.BPF_MOV, to, source)


def put(to: Register, number: int) -> Instruction:
    """``to = number``, a signed number of 32 bits."""
    return compute(n.BPF_MOV, to, number)


def compute(operation: int, to: Register, number: int) -> Instruction:
    """``to = to <operation> number`` with 64 bits."""
    text = f"{to} {_OPERATORS[operation]} {number}"
    return Instruction(n.BPF_ALU64 | operation | n.BPF_K, text, to, number=number)


def subtract(to: Register, source: Register) -> Instruction:
    """``to = to - source`` with 64 bits."""
    return _of_registers(n.BPF_ALU64, n.BPF_SUB, to, source)


def remainder32(to: Register, source: Register) -> Instruction:
    """``to = to % source``, unsigned, with 32 bits."""
    return _of_registers(n.BPF_ALU, n.BPF_MOD, to, source)


def load(size: Size, to: Register, base: Register, offset: int) -> Instruction:
    """Read from memory."""
    text = f"{to} = {_operand(size, base, offset)}"
    return Instruction(n.BPF_LDX | n.BPF_MEM | size, text, to, base, offset)


def store(size: Size, base: Register, offset: int, source: Register) -> Instruction:
    """Write a register to memory."""
    text = f"{_operand(size, base, offset)} = {source}"
    return Instruction(n.BPF_STX | n.BPF_MEM | size, text, base, source, offset)


def store_number(size: Size, base: Register, offset: int, number: int) -> Instruction:
    """Write a sign-extended number of up to 32 bits to memory."""
    text = f"{_operand(size, base, offset)} = {number}"
    return Instruction(n.BPF_ST | n.BPF_MEM | size, text, base, 0, offset, number)


def load_wide(to: Register, number: int) -> Instruction:
    """``to = number``, an unsigned number of 64 bits."""
    return Instruction(_WIDE, f"{to} = {number:#x}", to, number=number)


def load_map(to: Register, name: str) -> Instruction:
    """``to`` = the map ``name``."""
    return Instruction(_WIDE, f"{to} = map {name}", to, n.BPF_PSEUDO_MAP_FD, map=name)


def jump(target: str) -> Instruction:
    """Jump to a label."""
    return Instruction(n.BPF_JMP | n.BPF_JA, f"goto {target}", target=target)


def jump_if(operation: int, register: Register, number: int, target: str) -> Instruction:
    """Jump to a label if ``register <operation> number``."""
    text = f"if {register} {_COMPARISONS[operation]} {number} goto {target}"
    code = n.BPF_JMP | operation | n.BPF_K
    return Instruction(code, text, register, number=number, target=target)


def jump_if_same(left: Register, right: Register, target: str) -> Instruction:
    """Jump to a label if both registers have the same value."""
    text = f"if {left} == {right} goto {target}"
    code = n.BPF_JMP | n.BPF_JEQ | n.BPF_X
    return Instruction(code, text, left, right, target=target)


def jump_if_greater(left: Register, right: Register, target: str) -> Instruction:
    """Jump to a label if ``left > right``, unsigned."""
    text = f"if {left} > {right} goto {target}"
    code = n.BPF_JMP | n.BPF_JGT | n.BPF_X
    return Instruction(code, text, left, right, target=target)


def call(helper: int, name: str) -> Instruction:
    """Call a kernel helper with R1 to R5; R0 is the result."""
    return Instruction(n.BPF_JMP | n.BPF_CALL, f"call {name}", number=helper)


def leave() -> Instruction:
    """End the program; R0 is its result."""
    return Instruction(n.BPF_JMP | n.BPF_EXIT, "exit")


def assemble(lines: Sequence[Line], maps: Mapping[str, int]) -> bytes:
    """Encode a program. ``maps``: map name -> descriptor.

    Raises ValueError if a label is unknown or repeated, a jump too far, or the program too long.
    """
    offsets = _label_offsets(lines)
    packed_instructions, next_slot = [], 0
    for line in lines:
        if isinstance(line, Label):
            continue
        next_slot += line.slots
        offset = line.offset
        if line.target:
            if line.target not in offsets:
                raise ValueError(f"there is no label {line.target}")
            offset = offsets[line.target] - next_slot
        if offset not in _OFFSET_RANGE:
            raise ValueError(f"`{line.text}`: offset {offset} does not fit 16 bits")
        packed_instructions.append(_packed_instruction(line, offset, maps))
    if next_slot > INSTRUCTIONS_MAX:
        raise ValueError(f"{next_slot} instructions are more than {INSTRUCTIONS_MAX}")
    return b"".join(packed_instructions)


def _label_offsets(lines: Sequence[Line]) -> dict[str, int]:
    offsets: dict[str, int] = {}
    next_slot = 0
    for line in lines:
        if isinstance(line, Instruction):
            next_slot += line.slots
        elif line.name in offsets:
            raise ValueError(f"label {line.name} is defined twice")
        else:
            offsets[line.name] = next_slot
    return offsets


def _packed_instruction(line: Instruction, offset: int, maps: Mapping[str, int]) -> bytes:
    registers = _registers(line)
    if line.code != _WIDE:
        return INSTRUCTION.pack(line.code, registers, offset, line.number)
    number = maps[line.map] if line.map else line.number
    low, high = _HALVES.unpack(_WORDS.pack(number & 0xFFFFFFFF, number >> 32))
    first = INSTRUCTION.pack(line.code, registers, 0, low)
    return first + INSTRUCTION.pack(0, 0, 0, high)


def _registers(line: Instruction) -> int:
    # The order of these bit fields of a C struct follows the machine's byte order.
    if sys.byteorder == "little":
        return line.to | line.source << 4
    return line.to << 4 | line.source


def _of_registers(kind: int, operation: int, to: Register, source: Register) -> Instruction:
    bits = " (32 bits)" if kind == n.BPF_ALU else ""
    text = f"{to} {_OPERATORS[operation]} {source}{bits}"
    return Instruction(kind | operation | n.BPF_X, text, to, source)


def _operand(size: Size, base: Register, offset: int) -> str:
    return f"{_SIZE_NAMES[size]}[{base}{offset:+d}]"
