"""A laboratory: nodes, Pods and a network in network namespaces of one machine, for demo and tests.

    laboratory.py    the laboratory: a context manager that creates and removes all its parts
    identity.py      names that contain the process id of the laboratory
    leftovers.py     finds and removes the processes, namespaces and files of a laboratory
    programs.py      the required programs, and how to run one
    namespaces.py    network namespaces
    fabric.py        the network: one bridge in its own namespace, a veth pair to each node
    daemons.py       long-running processes: etcd, agents and a controller
    store.py         etcd
    node.py          a node: namespace, cgroup, agent, plugins, runtime
    controller.py    the controller
    runtime.py       the CNI side of a container runtime
    pod_programs.py  programs that run in Pods
    sandbox.py       a Pod: a network namespace with a name

The layout:

- Nothing changes the machine's own interfaces or listens on its addresses. Each node and each Pod
  has its own namespace.
- etcd runs in the namespace of the fabric. Agents reach etcd through the network, which a test can
  cut for one node. Programs outside of all namespaces (orbctl, tests) reach etcd through a unix
  socket, which works in every namespace.
- Files are in /run/orbweaver-lab/<identity>, because the path of a socket has at most 107 bytes.
- Daemons die with the laboratory's process (PR_SET_PDEATHSIG). A new laboratory removes what
  killed laboratories left.
"""
