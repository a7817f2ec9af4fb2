"""Configuration: the commands, the state that decisions use, and the decisions. Pure."""
