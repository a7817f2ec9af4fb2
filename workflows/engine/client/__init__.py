"""What callers use: start, signal, query, update, cancel, list, describe."""
