"""ClusterIPs without kube-proxy: BPF programs replace a Service's address at the Pod's socket.

    frontends.py         Services and EndpointSlices -> frontends with their backends     (pure)
    map_plan.py          the map writes from the stored to the desired contents, in order  (pure)
    map_layout.py        the maps: names, sizes, keys and values as bytes                  (pure)
    bpf_programs.py      the eight programs, as instructions                               (pure)
    program_loader.py    loads the programs into the kernel
    bpf_installation.py  maps and links in the kernel, pinned if there is a bpffs
    pod_cgroups.py       the control group of the Pods' processes
    service_sources.py   the source of Services: an interface, and records
    reconciler.py        keeps the maps up to date, in the background
    clusterip_setup.py   starts ClusterIPs from the settings; if disabled, removes pinned maps

Packets are not changed, and no socket outside the Pods' control group is affected
(docs/concepts/clusterip.md).
"""
