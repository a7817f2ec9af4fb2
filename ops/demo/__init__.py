"""``make demo`` shows Orbweaver with real processes, in under a minute.

    __main__.py     options, signals and exit codes
    demo_output.py  the output: numbered steps, commands, their results
    demo_state.py   what the steps share: laboratory, nodes, Pods, orbctl
    steps.py        the steps in order
    datapath.py     the steps that need kernel features: a ping from node to Pod, a Service
    pools.yaml      pools and a reservation
    pods.yaml       records of Pods with annotations
    service.yaml    a Service and its endpoints
    subnet.yaml     a subnet that contains the pools
    cart.yaml       a Deployment with an automatic pool, and its Pod

The demo prints the commands that it runs, long ones shortened. A step with an unexpected result
ends the demo with exit code 1.
"""
