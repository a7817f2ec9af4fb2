"""Subnets: the model, the decisions, and their rules in the history checker. Pure."""
