"""The values that workers, engine and tools share: events, policies, failures, limits. Pure."""
