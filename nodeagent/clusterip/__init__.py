"""ClusterIPs without kube-proxy: BPF programs replace a Service's address at the Pod's socket.

    frontends.py         computes frontends and their backends from Services  (pure)
    map_plan.py          plans the writes from stored to desired maps         (pure)
    map_layout.py        names, sizes and byte layout of the maps             (pure)
    bpf_programs.py      the eight programs, as instructions                  (pure)
    program_loader.py    loads the programs into the kernel
    bpf_installation.py  maps and links in the kernel, pinned if there is a bpffs
    pod_cgroups.py       the control group of the Pods' processes
    service_sources.py   where the Services of the cluster are read from
    reconciler.py        keeps the maps up to date, in the background
    clusterip_setup.py   starts ClusterIPs from the settings; if disabled, removes pinned maps

Packets are not changed. Only sockets in the Pods' control group are affected
(docs/concepts/clusterip.md).
"""
