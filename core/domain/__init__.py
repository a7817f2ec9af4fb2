"""The pure core: values, rules and decisions; no clock, no randomness, no I/O."""
