"""The daemon on each node: serves CNI requests from projections and one etcd transaction."""
