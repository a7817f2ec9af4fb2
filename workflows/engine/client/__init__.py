"""The client of executions: start, signal, query, update, cancel, list, describe."""
