"""Runs of a comparison: what they are, and how they are carried out."""
