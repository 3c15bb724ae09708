"""Hyper-parameter search for every arm alike."""
