"""One process that runs executions: its shards, activity attempts and retention."""
