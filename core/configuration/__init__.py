"""Configuration commands: read what they concern, decide, commit; and the notes of webhooks."""
