"""Durable workflows: reclaiming addresses and growing pools."""
