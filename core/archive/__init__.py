"""The archive: sealed segments in files outside etcd, chained by hash; readers add the live log."""
