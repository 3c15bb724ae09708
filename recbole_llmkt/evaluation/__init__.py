"""Metrics by user and by slice."""
