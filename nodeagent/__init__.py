"""The daemon on each node: serves each CNI request from caches, with one etcd transaction."""
