"""Processes and data of measures: etcd that syncs to disk, agents, API servers, seeded data."""
