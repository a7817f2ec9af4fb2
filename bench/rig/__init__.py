"""What measures stand on: a directory, etcd that syncs to disk, agent processes, seeded data."""
