"""The daemon on each node: serves CNI requests from cached objects and one etcd transaction."""
