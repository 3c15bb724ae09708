"""Taps, rows, targets and losses: what adds a profile to a model's training."""
