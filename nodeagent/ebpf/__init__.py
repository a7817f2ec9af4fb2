"""eBPF without a compiler: a program is a list of instructions, which the kernel loads as bytes.

    numbers.py       the kernel's constants, under the kernel's names
    instructions.py  one instruction as a value; assembler and disassembler  (pure)
    calls.py         the system call bpf(2): maps, programs, links, pins

The programs themselves are in ``nodeagent.clusterip``.
"""
