"""One process that runs executions: its shards, activity attempts, deadlines and retention."""
