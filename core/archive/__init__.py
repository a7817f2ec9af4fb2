"""The archive: sealed segments in files outside etcd, chained by hash; read with the live log."""
