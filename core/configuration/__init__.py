"""Configuration commands: read the objects, decide, commit; and the records of the webhooks."""
