"""eBPF without a compiler: a program is a list of instructions, assembled to bytes.

    numbers.py       the kernel's constants, under the kernel's names
    instructions.py  an instruction as a value, and the assembler  (pure)
    calls.py         the system call bpf(2): maps, programs, links, pins

The programs themselves are in ``nodeagent.clusterip``.
"""
