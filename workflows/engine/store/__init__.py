"""The stored data of the engine: keys, records, sessions, histories and archive files."""
