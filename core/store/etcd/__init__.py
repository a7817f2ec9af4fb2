"""The key-value protocol spoken to etcd; the only place that imports gRPC."""
