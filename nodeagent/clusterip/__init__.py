"""ClusterIP without kube-proxy: sockets of Pods are told a backend instead of a Service's address.

    frontends.py        Services and EndpointSlices -> frontends with their backends     (pure)
    map_plan.py         what is in the maps and what shall be -> what to write, in order  (pure)
    layout.py           the maps: names, sizes, keys and values as bytes                  (pure)
    programs.py         the eight programs, as instructions                               (pure)
    program_loader.py   the programs, handed to the kernel
    installation.py     maps and links in the kernel, pinned where there is a bpffs
    pods.py             the control group that Pods' processes are in
    sources.py          where Services come from: an interface, and records
    reconciler.py       keeps the maps as the source says, in the background
    clusterip_setup.py  from settings to a follower; switched off means off

It never touches a packet, and no socket outside the Pods' control group
(docs/concepts/clusterip.md).
"""
