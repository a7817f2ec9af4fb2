"""eBPF without a compiler: programs are written as instructions, and handed to the kernel as bytes.

    numbers.py       the kernel's numbers, under the kernel's names
    instructions.py  an instruction as a value; assembling and disassembling  (pure)
    calls.py         the system call bpf(2): maps, programs, links, pins

What programs there are and what they do is not known here (``nodeagent.clusterip``).
"""
