"""Hyper-parameter search, the same for every arm."""
