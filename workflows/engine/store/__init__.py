"""What the engine keeps in the store: keys, records, sessions, histories and archive files."""
