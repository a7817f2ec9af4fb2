"""Configuration: the commands, the state they are decided on, and the decisions. Pure."""
