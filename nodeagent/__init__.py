"""The daemon on each node: answers CNI requests from cached objects and one etcd transaction."""
