"""Experiments: comparisons of arms over models and seeds, their statistics and their report."""
