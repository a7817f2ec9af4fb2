"""What measures start and share: a directory, etcd that syncs to disk, agents, seeded data."""
