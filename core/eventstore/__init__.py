"""The event log on a key-value store: keys, codecs, group commit, reading."""
