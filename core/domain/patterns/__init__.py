"""Label selectors and wildcards of names. Pure."""
