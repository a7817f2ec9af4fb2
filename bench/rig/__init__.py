"""What measures share: a directory, etcd that syncs to disk, agent processes, seeded data."""
