"""ClusterIPs without kube-proxy: BPF programs replace a Service's address at the Pod's socket.

Packets are not changed. Only sockets in the Pods' control group are affected. See
docs/concepts/clusterip.md.
"""
