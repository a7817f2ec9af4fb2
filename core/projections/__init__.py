"""Projections: state computed from the log, which can always be rebuilt from it."""
