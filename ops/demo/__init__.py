"""``make demo``: the main job, for real, in under a minute.

    __main__.py     options, signals, exit codes, the time it took
    demo_output.py  what it looks like: numbered steps, commands, their output
    demo_state.py   what the steps share: laboratory, nodes, Pods, orbctl
    steps.py        the steps in order
    datapath.py     those about nodes and Services, and what this kernel can show of them
    pools.yaml    what an operator applies
    pods.yaml     the same, for Pods that ask for something
    service.yaml  the same, for a Service

Nothing is staged: what is shown is what runs, shortened where it is long, and a step that does not
come out as it should ends the demo with exit code 1.
"""
