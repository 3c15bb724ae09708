"""Profiles as targets of an auxiliary loss."""
