"""A laboratory: nodes, Pods and a network on one machine, all in namespaces, for demo and tests.

    laboratory.py    the whole: a context manager that makes and removes everything below
    identity.py      names that say which process they belong to
    leftovers.py     what a laboratory has on the machine: to verify that it is gone, or remove it
    programs.py      what must be installed, and running it
    namespaces.py    network namespaces
    fabric.py        the network: one bridge in a namespace of its own, wires to the nodes
    daemons.py       processes that run on: etcd, agents and a controller
    store.py         etcd
    node.py          a node: namespace, agent, plugins, runtime
    controller.py    the controller, where one is wanted
    runtime.py       what a container runtime does with CNI
    groups.py        control groups of Pods, where an agent serves ClusterIPs to their sockets
    pod_programs.py  what Pods say to each other
    sandbox.py       a Pod: a network namespace with a name

How it is laid out, and why:

- Nothing touches the machine's own interfaces or listens on its addresses. The bridge lives in the
  namespace "fabric", each node in one of its own, wired to the bridge; so do the Pods.
- etcd runs in the fabric's namespace and the agents run in their node's, as agents with
  hostNetwork do: they reach etcd through the network, which a test can cut for one node alone.
  Tools outside (orbctl, tests) reach the same etcd through a unix socket, which no namespace hides.
- Files are in /run/orbweaver-lab/<identity>, because socket paths have 107 bytes.
- Every name carries the process id of its maker. Daemons die with it (PR_SET_PDEATHSIG); names and
  files that a killed laboratory left are removed by the next one, those of living ones never.
"""
