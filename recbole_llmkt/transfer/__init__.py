"""Taps, rows, targets and losses: how profiles enter a model's training."""
