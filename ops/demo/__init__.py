"""``make demo``: the main job, for real, in under a minute.

    __main__.py   options, signals, exit codes, the time it took
    stage.py      what it looks like: numbered steps, commands, their output
    scene.py      what the steps share: laboratory, nodes, Pods, orbctl
    steps.py      the steps in order
    pools.yaml    what an operator applies
    pods.yaml     the same, for Pods that ask for something

Nothing is staged: what is shown is what runs, shortened where it is long, and a step that does not
come out as it should ends the demo with exit code 1.
"""
