"""Subnets: the model, the decisions, and what the history checker asks of them. Pure."""
