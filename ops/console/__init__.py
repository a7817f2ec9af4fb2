"""The console's API and its web server: every state of the log, read-only, as JSON and as pages."""
